-- Publishes a tick's rates and puts them on the list of those to save, all or nothing, fenced.
-- KEYS: fence, unsaved, rate…
-- ARGV: token, channel, keep_s, tick_ms, rows to save, ticks to keep, json…
-- Returns how many ticks had to be dropped unsaved; -1 when the token is too old.
if not pass_fence(KEYS[1], ARGV[1]) then return -1 end
for i = 3, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i + 4], 'EX', ARGV[3])
  redis.call('PUBLISH', ARGV[2], ARGV[i + 4])
end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[6]) - 1)
