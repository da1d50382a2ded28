-- Deletes totals that were flushed long ago; trades of those minutes are too late from now on.
-- KEYS: flushed, horizon, hash…  ARGV: newest_ms (of a flush), (member, minute_ms)…
-- One that a late trade has changed meanwhile is not in the set, or was flushed anew.
local count = 0
for i = 3, #KEYS do
  local member, minute = ARGV[2 * i - 4], ARGV[2 * i - 3]
  local at = redis.call('ZSCORE', KEYS[1], member)
  if at and tonumber(at) <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], member)
    redis.call('DEL', KEYS[i])
    if tonumber(minute) > tonumber(redis.call('GET', KEYS[2]) or '-1') then
      redis.call('SET', KEYS[2], minute)
    end
    count = count + 1
  end
end
return count
