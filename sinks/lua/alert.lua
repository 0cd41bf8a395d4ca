-- The open alerts. One that was resolved stays closed, whatever is delivered again.
-- KEYS: alerts:open, alerts:resolved
-- ARGV: alert_id, state, JSON, time in ms, how many resolved ones are remembered
if ARGV[2] == 'RESOLVED' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[5]))
elseif not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
