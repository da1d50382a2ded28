-- KEYS: circuit. ARGV: now_ms, max_failures, window_ms, code, keep_ms.
-- Returns 1 when this failure opened the circuit.
local circuit = redis.call('HMGET', KEYS[1], 'state', 'failures')
local now, limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local recent = {}
for at in string.gmatch(circuit[2] or '', '%d+') do
  if math.abs(now - tonumber(at)) < window then recent[#recent + 1] = at end
end
recent[#recent + 1] = ARGV[1]
while #recent > limit do table.remove(recent, 1) end
redis.call('HSET', KEYS[1], 'failures', table.concat(recent, ','),
           'error', ARGV[4], 'failed_ms', ARGV[1])
-- Whatever happens to the clocks of workers, Redis's own forgets the circuit in the end.
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if circuit[1] == 'open' or (circuit[1] ~= 'half_open' and #recent < limit) then return 0 end
redis.call('HSET', KEYS[1], 'state', 'open', 'opened_ms', ARGV[1])
redis.call('HDEL', KEYS[1], 'probe_ms')
return 1
