-- KEYS: fence, tickers, feed.
-- ARGV: token, digest, received_ms, max_clock_off_ms, (symbol, row, stated_ms)…
-- Returns 1; 0 when the token is too old; -1 when the clock of the caller is off.
local received = tonumber(ARGV[3])
-- A host whose clock is ahead would make prices look newer than they are.
if math.abs(received - now_ms()) > tonumber(ARGV[4]) then return -1 end
if not pass_fence(KEYS[1], ARGV[1]) then return 0 end
local changed = received
local last = redis.call('HMGET', KEYS[3], 'digest', 'changed_ms')
if last[1] == ARGV[2] and last[2] then changed = tonumber(last[2]) end
local newest = 0
for i = 5, #ARGV, 3 do
  local as_of = tonumber(ARGV[i + 2]) or changed
  if as_of > changed then as_of = changed end
  if as_of > newest then newest = as_of end
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1] .. '|' .. string.format('%d', as_of))
end
redis.call('HSET', KEYS[3], 'digest', ARGV[2], 'received_ms', ARGV[3],
           'changed_ms', string.format('%d', changed), 'as_of_ms', string.format('%d', newest))
return 1
