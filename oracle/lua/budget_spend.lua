-- KEYS: budget, the budget's block, the exchange's block.
-- ARGV: now_ms, weight, units, window_ms, spare_units ('' when it is a ticker's request).
-- Returns {0, ''} when the weight was taken, else {wait_ms, 'blocked' or 'budget'}.
-- The hash counts units by time: field t<ms> those of tickers, o<ms> all others. A hundredth of the
-- window shares a field, so a unit may leave that much early, and the hash stays small.
local now, weight, units = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, spare = tonumber(ARGV[4]), tonumber(ARGV[5])

local blocked = 0
for i = 2, 3 do
  blocked = math.max(blocked, (tonumber(redis.call('HGET', KEYS[i], 'until_ms') or '0')) - now)
end
if blocked > 0 then return {blocked, 'blocked'} end

local tickers, others, spent = spent_in_window(KEYS[1], now, window)
local excess = tickers + others + weight - units
local leaving = spent
if spare then
  -- Others may never hold more than the spare units, nor what the tickers use beyond their part.
  local allowed = math.min(spare, units - tickers)
  excess = others + weight - allowed
  leaving = {}
  for _, entry in ipairs(spent) do
    if entry.kind == 'o' or tickers > units - spare then leaving[#leaving + 1] = entry end
  end
end
if excess > 0 then
  table.sort(leaving, function(a, b) return a.at < b.at end)
  for _, entry in ipairs(leaving) do
    excess = excess - entry.weight
    if excess <= 0 then return {math.max(1, entry.at + window - now), 'budget'} end
  end
  return {window, 'budget'}
end
spend_at(KEYS[1], spare and 'o' or 't', now, weight, window)
return {0, ''}
