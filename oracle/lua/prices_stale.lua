-- Marks prices stale without making them look newer: their time to live is kept, so a price that
-- nobody feeds is gone an hour after it was last made. Fenced.
-- KEYS: fence, price… ARGV: token, channel, json…  Returns how many; -1 when the token is too old.
if not pass_fence(KEYS[1], ARGV[1]) then return -1 end
local count = 0
for i = 2, #KEYS do
  if redis.call('SET', KEYS[i], ARGV[i + 1], 'XX', 'KEEPTTL') then
    redis.call('PUBLISH', ARGV[2], ARGV[i + 1])
    count = count + 1
  end
end
return count
