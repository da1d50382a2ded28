-- The totals of many minutes in one answer. KEYS: hash… Returns each as a flat list, empty: none.
local rows = {}
for i = 1, #KEYS do rows[i] = redis.call('HGETALL', KEYS[i]) end
return rows
