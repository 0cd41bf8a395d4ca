-- The newest value and the last events of one device.
-- KEYS: device:{id}, device:{id}:events, devices:last_seen
-- ARGV: device id, how many events are kept, number of field arguments, field, value, ...,
--       then the events, newest first: event_time_ms, seq, JSON. The fields are those of the first event.
local device, kept, fields = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local first = 4 + fields

local current = redis.call('HMGET', KEYS[1], 'event_time_ms', 'seq')
if not current[1] or is_newer(ARGV[first], ARGV[first + 1], current[1], current[2]) then
  redis.call('HSET', KEYS[1], unpack(ARGV, 4, first - 1))
  redis.call('ZADD', KEYS[3], 'GT', ARGV[first], device)
end

local function id_of(event)
  return event:match('^{"event_time_ms":(%-?%d+),"seq":(%-?%d+)')
end

-- Mostly every new event is newer than the head of the list: push them, oldest first.
local head_time, head_seq
local head = redis.call('LINDEX', KEYS[2], 0)
if head then head_time, head_seq = id_of(head) end
if not head or is_newer(ARGV[#ARGV - 2], ARGV[#ARGV - 1], head_time, head_seq) then
  for i = #ARGV, first + 2, -3 do redis.call('LPUSH', KEYS[2], ARGV[i]) end
  redis.call('LTRIM', KEYS[2], 0, kept - 1)
  return
end

-- Otherwise merge: both are sorted, an event that is there already is left alone.
local old, merged, has_new = redis.call('LRANGE', KEYS[2], 0, kept - 1), {}, false
local i, j = 1, first
while #merged < kept and (i <= #old or j <= #ARGV) do
  if i > #old then
    merged[#merged + 1], has_new, j = ARGV[j + 2], true, j + 3
  elseif j > #ARGV then
    merged[#merged + 1], i = old[i], i + 1
  else
    local time, seq = id_of(old[i])
    if time == ARGV[j] and seq == ARGV[j + 1] then
      j = j + 3
    elseif is_newer(ARGV[j], ARGV[j + 1], time, seq) then
      merged[#merged + 1], has_new, j = ARGV[j + 2], true, j + 3
    else
      merged[#merged + 1], i = old[i], i + 1
    end
  end
end
if has_new then
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[2], unpack(merged))
end
