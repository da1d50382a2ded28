-- KEYS: budget. ARGV: now_ms, used, window_ms. When the exchange counts more than we did, the
-- difference is somebody else's behind our address: it is added to the others.
local now, window = tonumber(ARGV[1]), tonumber(ARGV[3])
local tickers, others = spent_in_window(KEYS[1], now, window)
local missing = tonumber(ARGV[2]) - tickers - others
if missing <= 0 then return 0 end
spend_at(KEYS[1], 'o', now, missing, window)
return missing
