-- Devices that are silent leave the cache. Silent is who has an old event time and was not heard by the broker lately
-- either: a recording that is played again speaks now. Looks at a page of the devices with an old event time, and returns
-- how many of them left and how many stayed.
-- KEYS: devices:last_seen
-- ARGV: silent since (ms), how many to pass over, how many to look at
local devices = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', ARGV[2], ARGV[3])
local gone = 0
for _, device in ipairs(devices) do
  local heard = redis.call('HGET', 'device:' .. device, 'ingest_ms')
  if not heard or tonumber(heard) < tonumber(ARGV[1]) then
    redis.call('DEL', 'device:' .. device, 'device:' .. device .. ':events', 'window:DEVICE:' .. device)
    redis.call('ZREM', KEYS[1], device)
    gone = gone + 1
  end
end
return {gone, #devices - gone}
