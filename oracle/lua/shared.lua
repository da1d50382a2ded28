-- Put before every script.

-- Now, by Redis's own clock: one clock for all processes.
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- True when `token` may write to the resource fenced by `key`: it is not older than the newest
-- token that has written. Tokens are digits of one length (see locks.lua), so text order is
-- number order: a Lua number would lose the last digits.
local function pass_fence(key, token)
  local newest = redis.call('GET', key)
  if newest and newest > token then return false end
  if newest ~= token then redis.call('SET', key, token) end
  return true
end

-- Is decimal text `a` less than `b`? Both positive and plain ("0.00000123"): exact, where
-- tonumber() would round. The longer integer part is the larger number; else text order decides.
local function less(a, b)
  local a_int, b_int = string.find(a, '.', 1, true), string.find(b, '.', 1, true)
  a_int = a_int and a_int - 1 or #a
  b_int = b_int and b_int - 1 or #b
  if a_int ~= b_int then return a_int < b_int end
  return a < b
end

-- What is spent of a request budget: units of tickers, of all others, and the entries
-- {at, weight, kind}. Fields that left the window, or that a wrong clock wrote, are deleted.
local function spent_in_window(key, now, window)
  local sums, entries, gone = {t = 0, o = 0}, {}, {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local kind, at = string.sub(fields[i], 1, 1), tonumber(string.sub(fields[i], 2))
    if at > now - window and at <= now + window then
      local weight = tonumber(fields[i + 1])
      sums[kind] = sums[kind] + weight
      entries[#entries + 1] = {at = at, weight = weight, kind = kind}
    else
      gone[#gone + 1] = fields[i]
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  return sums.t, sums.o, entries
end

local function spend_at(key, kind, now, weight, window)
  local step = math.max(1, math.floor(window / 100))
  local at = string.format('%d', math.floor(now / step) * step)
  redis.call('HINCRBY', key, kind .. at, weight)
  redis.call('PEXPIRE', key, 2 * window)
end
