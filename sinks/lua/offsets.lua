-- Where reading goes on after what was just written, in the cache itself: who loses the one loses the other too.
-- Within a Kafka cluster offsets only go forward. Returns 0, and stores nothing, when this is not the cache any more
-- for which the writer was placed (it was emptied meanwhile).
-- KEYS: sink:offsets
-- ARGV: id of the cache, name of the Kafka cluster, then topic/partition, next offset, ...
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'cluster') ~= ARGV[2] then
  local unfilled = redis.call('HGET', KEYS[1], 'unfilled')
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'cluster', ARGV[2])
  if unfilled then redis.call('HSET', KEYS[1], 'unfilled', unfilled) end
end
for i = 3, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or is_greater(ARGV[i + 1], old) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
