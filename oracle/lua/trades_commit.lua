-- The sums of a batch of the trade log and its acknowledgement, all or nothing.
-- KEYS: dirty, flushed, horizon, poison, then the streams and hashes that ARGV names by number.
-- ARGV: group, consumer, second_ttl_s,
--       entries, (stream, id, '' or what is wrong with it)…,
--       seconds, (hash, field, volume, quote_volume, count)…,
--       minutes, (hash, exchange, volume, quote_volume, count, symbol|minute, minute_ms)…
-- Returns {1, (number of a minute that is too old)…}, or {0} when an entry is no longer ours to
-- count: somebody else was given it, or has counted it already.
local group, consumer = ARGV[1], ARGV[2]
local at = 4

-- The sum of two decimals at least 0 in plain notation, exact: a Lua number has 53 bits. Digits are
-- added in groups of 15, which it can hold.
local function add(a, b)
  local a_int, a_frac = string.match(a, '^(%d+)%.?(%d*)$')
  local b_int, b_frac = string.match(b, '^(%d+)%.?(%d*)$')
  local decimals = math.max(#a_frac, #b_frac)
  a = a_int .. a_frac .. string.rep('0', decimals - #a_frac)
  b = b_int .. b_frac .. string.rep('0', decimals - #b_frac)
  local width = math.ceil(math.max(#a, #b) / 15) * 15
  a = string.rep('0', width - #a) .. a
  b = string.rep('0', width - #b) .. b
  local groups, carry = {}, 0
  for i = width / 15, 1, -1 do
    local sum = tonumber(string.sub(a, i * 15 - 14, i * 15))
              + tonumber(string.sub(b, i * 15 - 14, i * 15)) + carry
    carry = sum >= 1e15 and 1 or 0
    groups[i] = string.format('%015.0f', sum - carry * 1e15)
  end
  local digits = carry .. table.concat(groups)
  local whole = string.gsub(string.sub(digits, 1, #digits - decimals), '^0+(%d)', '%1')
  if decimals == 0 then return whole end
  return whole .. '.' .. string.sub(digits, -decimals)
end

local function add_to(key, field, volume, quote_volume, count)
  local held = redis.call('HGET', key, field)
  if held then
    local held_volume, held_quote, held_count = string.match(held, '^([^|]+)|([^|]+)|(%d+)$')
    volume, quote_volume = add(held_volume, volume), add(held_quote, quote_volume)
    count = string.format('%.0f', tonumber(held_count) + tonumber(count))
  end
  redis.call('HSET', key, field, volume .. '|' .. quote_volume .. '|' .. count)
end

local entries, count = at + 1, tonumber(ARGV[at])
for i = entries, entries + 3 * count - 1, 3 do
  local stream, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  if #redis.call('XPENDING', stream, group, id, id, 1, consumer) == 0 then return {0} end
end
for i = entries, entries + 3 * count - 1, 3 do
  local stream, id, wrong = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  if wrong ~= '' then
    local found = redis.call('XRANGE', stream, id, id)
    local fields = found[1] and found[1][2] or {}
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', 1000, '*', 'stream', stream, 'id', id,
               'wrong', wrong, unpack(fields))
  end
  redis.call('XACK', stream, group, id)
end

at = entries + 3 * count
local seconds = tonumber(ARGV[at])
for i = at + 1, at + 5 * seconds, 5 do
  local key = KEYS[tonumber(ARGV[i])]
  add_to(key, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  redis.call('EXPIRE', key, ARGV[3])
end

at = at + 1 + 5 * seconds
local answer = {1}
local horizon = tonumber(redis.call('GET', KEYS[3]) or '-1')
for number = 1, tonumber(ARGV[at]) do
  local i = at + 7 * number - 6
  local key, member, minute = KEYS[tonumber(ARGV[i])], ARGV[i + 5], ARGV[i + 6]
  if tonumber(minute) <= horizon and redis.call('EXISTS', key) == 0 then
    answer[#answer + 1] = number
  else
    add_to(key, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
    redis.call('HINCRBY', key, 'version', 1)
    redis.call('ZADD', KEYS[1], minute, member)
    redis.call('ZREM', KEYS[2], member)
  end
end
return answer
