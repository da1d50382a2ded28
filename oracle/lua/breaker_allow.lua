-- KEYS: circuit. ARGV: now_ms, open_ms, probe_ms.
-- Returns 'closed', 'open', 'half_open' (somebody else's probe is under way) or 'probe': go, alone.
-- Times further off than any wait come from a wrong clock: they must not stop anything for good.
local circuit = redis.call('HMGET', KEYS[1], 'state', 'opened_ms', 'probe_ms')
local now = tonumber(ARGV[1])
if circuit[1] == 'open' then
  if math.abs(now - tonumber(circuit[2])) < tonumber(ARGV[2]) then return 'open' end
elseif circuit[1] == 'half_open' then
  if math.abs(now - tonumber(circuit[3])) < tonumber(ARGV[3]) then return 'half_open' end
else
  return 'closed'
end
redis.call('HSET', KEYS[1], 'state', 'half_open', 'probe_ms', ARGV[1])
return 'probe'
