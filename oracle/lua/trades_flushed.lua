-- Takes totals off the list of those to flush; what changed since it was read stays on it.
-- KEYS: dirty, flushed, hash…  ARGV: now_ms, (member, version)…  Returns how many are done.
local count = 0
for i = 3, #KEYS do
  local member, version = ARGV[2 * i - 4], ARGV[2 * i - 3]
  if redis.call('HGET', KEYS[i], 'version') == version then
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZADD', KEYS[2], ARGV[1], member)
    count = count + 1
  end
end
return count
