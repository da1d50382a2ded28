-- KEYS: lock. ARGV: owner. Deletes the lock only if it is still the owner's; returns 1 or 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
