-- The second phase of a flush: forget the candles that are in the database now.
-- One that changed since it was read stays in the set and is flushed again.
-- KEYS: open candles, (candle, flush last)…
-- ARGV: keep_seconds, note_seconds, (member, version, note)…  Returns how many are done.
local count = 0
for i = 3, #ARGV, 3 do
  local key = (i - 3) / 3 * 2 + 2
  if redis.call('HGET', KEYS[key], 'version') == ARGV[i + 1] then
    redis.call('HSET', KEYS[key], 'flushed', ARGV[i + 1])
    redis.call('EXPIRE', KEYS[key], ARGV[1])
    redis.call('ZREM', KEYS[1], ARGV[i])
    count = count + 1
  end
  redis.call('SET', KEYS[key + 1], ARGV[i + 2], 'EX', ARGV[2])
end
return count
