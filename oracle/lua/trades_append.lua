-- KEYS: fence, stream, positions, last batch.
-- ARGV: token, digest, batch, keep_ms, max_entries, group, (symbol, trade_id, event_ms)…
-- Returns false when the token is too old, else the batches that had to be dropped unread.
local fence, stream, positions, last = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local MAX_DROPPED = 100  -- in one call: a limit set lower must not block Redis

local function whole_number(id) return string.find(id, '^%d+$') ~= nil end

-- Numbers decide, longer ones being larger; other ids have no order, and time decides.
local function later(id, event_ms, old_id, old_event_ms)
  if whole_number(id) and whole_number(old_id) then
    if #id ~= #old_id then return #id > #old_id end
    return id > old_id
  end
  return tonumber(event_ms) >= tonumber(old_event_ms)
end

local function id_less(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end

-- The oldest entry that the group still needs, or one before it, which is as good.
-- A group that was never made has read nothing.
local function needed_from(group)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local facts = {}
    for i = 1, #info, 2 do facts[info[i]] = info[i + 1] end
    if facts['name'] == group then
      local pending = redis.call('XPENDING', stream, group)
      return pending[1] > 0 and pending[2] or facts['last-delivered-id'], pending[1] > 0
    end
  end
  return '0-0', false
end

if not pass_fence(fence, ARGV[1]) then return false end
if redis.call('GET', last) == ARGV[2] then return {} end
redis.call('SET', last, ARGV[2])
redis.call('XADD', stream, '*', 'trades', ARGV[3])
for i = 7, #ARGV, 3 do
  local old = redis.call('HGET', positions, ARGV[i])
  local old_id, old_event_ms
  if old then old_id, old_event_ms = string.match(old, '^(.*)|(%d+)$') end
  if not old_id or later(ARGV[i + 1], ARGV[i + 2], old_id, old_event_ms) then
    redis.call('HSET', positions, ARGV[i], ARGV[i + 1] .. '|' .. ARGV[i + 2])
  end
end

local needed, is_pending = needed_from(ARGV[6])
local oldest = string.format('%d-0', now_ms() - tonumber(ARGV[4]))
redis.call('XTRIM', stream, 'MINID', id_less(needed, oldest) and needed or oldest)

local dropped = {}
local length = redis.call('XLEN', stream)
local over = math.min(length - tonumber(ARGV[5]), MAX_DROPPED)
if over > 0 then
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', over)) do
    local read = id_less(entry[1], needed) or (entry[1] == needed and not is_pending)
    if not read then dropped[#dropped + 1] = entry[2][2] end
  end
  redis.call('XTRIM', stream, 'MAXLEN', length - over)
end
return dropped
