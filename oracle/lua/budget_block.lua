-- KEYS: block. ARGV: now_ms, code, asked_ms ('' when the exchange named no wait), first_ms, cap_ms,
-- jitter (0 to 1, of a tenth), forget_ms.  Returns until_ms.
local now = tonumber(ARGV[1])
local block = redis.call('HMGET', KEYS[1], 'until_ms', 'refusals')
local old, refusals = tonumber(block[1] or '0'), tonumber(block[2] or '0')
-- Answers to what was under way when the block began are not a refusal repeated.
if old <= now or refusals == 0 then refusals = refusals + 1 end
local wait = tonumber(ARGV[3])
if not wait then
  wait = math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ math.min(refusals - 1, 30))
end
wait = math.ceil(wait * (1 + tonumber(ARGV[6]) / 10))
local ends = now + wait
if old > ends then ends = old end
redis.call('HSET', KEYS[1], 'until_ms', string.format('%d', ends), 'code', ARGV[2],
           'refusals', refusals)
-- By Redis's own clock: a worker whose clock is wrong cannot block for longer than it meant to.
redis.call('PEXPIRE', KEYS[1], string.format('%d', ends - now + tonumber(ARGV[7])))
return string.format('%d', ends)
