-- KEYS: circuit. Returns 1 when the success closed the circuit. One that comes while it is open was
-- sent before it opened, and says nothing about now; a closed one's failures stay in their window.
if redis.call('HGET', KEYS[1], 'state') ~= 'half_open' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'closed')
redis.call('HDEL', KEYS[1], 'opened_ms', 'probe_ms', 'failures')
return 1
