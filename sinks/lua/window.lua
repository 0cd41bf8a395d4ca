-- The latest window of one key as counted in one partition: never an older one, never one of lower
-- (is_final, included_offset).
-- KEYS: window:{scope}:{key}
-- ARGV: prefix of the fields, window_start_ms, is_final, included_offset, how long (ms) it stays without a newer one,
--       field, value, ...
local prefix = ARGV[1]
local old = redis.call(
  'HMGET', KEYS[1], prefix .. 'window_start_ms', prefix .. 'is_final', prefix .. 'included_offset')
if old[1] then
  local start, old_start = tonumber(ARGV[2]), tonumber(old[1])
  if start < old_start then return end
  if start == old_start then
    if ARGV[3] < old[2] then return end
    if ARGV[3] == old[2] and not is_greater(ARGV[4], old[3]) then return end
  end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
