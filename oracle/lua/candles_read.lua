-- Many candles in one answer: a pipeline of as many HGETALLs takes its reader ten times as long.
-- KEYS: candle… Returns for each {open, high, low, close, sources, version}, or {} where there is none.
local rows = {}
for i = 1, #KEYS do
  local row = redis.call('HMGET', KEYS[i], 'open', 'high', 'low', 'close', 'sources', 'version')
  rows[i] = row[1] and row or {}
end
return rows
