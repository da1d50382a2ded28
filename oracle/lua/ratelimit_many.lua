-- The requests of several addresses and scopes that wait at the same moment: ratelimit.lua, for
-- many at once. What it writes is the same, so that both may count the same address.
-- KEYS: requests… ARGV: window_ms, id of the call, (limit, wanted)…
-- Returns for each key {granted, retry_after_ms of the others}.
local window, id, now = tonumber(ARGV[1]), ARGV[2], now_ms()
local answers = {}
for i, key in ipairs(KEYS) do
  local limit, wanted = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%d', now - window))
  -- A call sent twice, after a broken connection, is one call.
  local granted = 0
  while granted < wanted and redis.call('ZSCORE', key, id .. ':' .. (granted + 1)) do
    granted = granted + 1
  end
  local count = redis.call('ZCARD', key)
  if granted == 0 then
    granted = math.max(0, math.min(wanted, limit - count))
    for n = 1, granted do
      redis.call('ZADD', key, string.format('%d', now), id .. ':' .. n)
    end
    if granted > 0 then redis.call('PEXPIRE', key, window) end
    count = count + granted
  end
  local wait = 0
  if granted < wanted then
    -- The next passes when so many have left the window that one is missing.
    local index = math.max(0, count - limit)
    local leaving = redis.call('ZRANGE', key, index, index, 'WITHSCORES')
    wait = tonumber(leaving[2]) + window - now
  end
  answers[i] = {granted, wait}
end
return answers
