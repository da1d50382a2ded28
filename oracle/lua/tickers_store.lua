-- KEYS: fence, tickers, feed. ARGV: token, digest, received_ms, (symbol, row, stated_ms)…
-- Returns 1, or 0 when the token is too old.
if not pass_fence(KEYS[1], ARGV[1]) then return 0 end
local received = tonumber(ARGV[3])
local changed = received
local last = redis.call('HMGET', KEYS[3], 'digest', 'changed_ms')
if last[1] == ARGV[2] and last[2] then changed = tonumber(last[2]) end
redis.call('HSET', KEYS[3], 'digest', ARGV[2], 'received_ms', ARGV[3],
           'changed_ms', string.format('%d', changed))
for i = 4, #ARGV, 3 do
  local as_of = tonumber(ARGV[i + 2]) or changed
  if as_of > changed then as_of = changed end
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1] .. '|' .. string.format('%d', as_of))
end
return 1
