-- Publishes prices and folds each into the candle of its minute, all or nothing, fenced.
-- KEYS: fence, open candles, (price, candle)…
-- ARGV: token, channel, price_ttl_s, now_ms, minute_ms, max_clock_off_ms,
--       (symbol, json, price, sources)…
-- Returns how many were published: 0 when the token is too old; -1 when the caller's clock is off,
-- which would open candles in minutes to come, or again those of minutes long stored.
if math.abs(tonumber(ARGV[4]) - now_ms()) > tonumber(ARGV[6]) then return -1 end
if not pass_fence(KEYS[1], ARGV[1]) then return 0 end
local channel, ttl, now, minute = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- "a,b" and "b,c" → "a,b,c"; nearly always both are the same text.
local function union(old, new)
  if old == new then return old end
  local all = ',' .. old .. ','
  for name in string.gmatch(new, '[^,]+') do
    if not string.find(all, ',' .. name .. ',', 1, true) then all = all .. name .. ',' end
  end
  return string.sub(all, 2, -2)
end

local function fold(key, symbol, price, sources)
  local old = redis.call('HMGET', key, 'high', 'low', 'sources', 'last_ms', 'version', 'flushed')
  if not old[1] then
    redis.call('HSET', key, 'open', price, 'high', price, 'low', price, 'close', price,
               'sources', sources, 'last_ms', now, 'version', 1)
    redis.call('ZADD', KEYS[2], minute, symbol .. '|' .. minute)
    return
  end
  -- The same tick again (a script sent twice) or an older one changes nothing.
  if tonumber(old[4]) >= tonumber(now) then return end
  redis.call('HSET', key, 'close', price, 'last_ms', now, 'version', old[5] + 1,
             'high', less(old[1], price) and price or old[1],
             'low', less(price, old[2]) and price or old[2],
             'sources', union(old[3], sources))
  if old[6] then  -- already flushed: it must be flushed again, and must not expire before
    redis.call('HDEL', key, 'flushed')
    redis.call('PERSIST', key)
    redis.call('ZADD', KEYS[2], minute, symbol .. '|' .. minute)
  end
end

local count = 0
for i = 7, #ARGV, 4 do
  local key = 3 + count * 2
  redis.call('SET', KEYS[key], ARGV[i + 1], 'EX', ttl)
  redis.call('PUBLISH', channel, ARGV[i + 1])
  fold(KEYS[key + 1], ARGV[i], ARGV[i + 2], ARGV[i + 3])
  count = count + 1
end
return count
