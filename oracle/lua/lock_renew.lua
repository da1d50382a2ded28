-- KEYS: lock. ARGV: owner, ttl_ms. Prolongs the lock only if it is still the owner's; 1 or 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
