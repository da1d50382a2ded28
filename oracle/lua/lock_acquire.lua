-- KEYS: lock, drawn tokens. ARGV: owner, ttl_ms. Returns a new fencing token, or false when held.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  -- Its own already: sent twice, because the connection broke before the first answer came.
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
-- Microseconds as 16 digits: tokens keep rising even when Redis lost its data and the counter.
local time = redis.call('TIME')
local token = string.format('%010d%06d', tonumber(time[1]), tonumber(time[2]))
local last = redis.call('GET', KEYS[2])
if last and last >= token then
  redis.call('INCR', KEYS[2])  -- exact on 64 bits, where a Lua number is not
  return redis.call('GET', KEYS[2])
end
redis.call('SET', KEYS[2], token)
return token
