-- KEYS: fence. ARGV: token. Refuses older tokens from now on; 1, or 0 when ours is too old.
return pass_fence(KEYS[1], ARGV[1]) and 1 or 0
