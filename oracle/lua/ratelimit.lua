-- One request of an address: counted, or refused because the last window is full. A sliding window
-- of single requests: exact at every moment, where a counter per minute lets two minutes' worth
-- through around its edge.
-- KEYS: requests. ARGV: limit, window_ms, request id.  Returns {1, left} or {0, retry_after_ms}.
local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now - window))
local count = redis.call('ZCARD', KEYS[1])
-- The same request sent twice, after a broken connection, is one request.
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then return {1, limit - count} end
if count >= limit then
  -- The next passes when so many have left the window that one is missing.
  local leaving = redis.call('ZRANGE', KEYS[1], count - limit, count - limit, 'WITHSCORES')
  return {0, tonumber(leaving[2]) + window - now}
end
redis.call('ZADD', KEYS[1], string.format('%d', now), ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1, limit - count - 1}
