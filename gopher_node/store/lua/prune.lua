#!lua flags=allow-oom
-- prune(limit, keep…): forgets finished jobs whose time is over, and pools that nobody asked for in ten minutes.
--   ARGV[2] limit; ARGV[3..5] ms to keep completed and cancelled jobs, and how many of each
-- Answers the number of jobs and pools that went.
local ending = parts.ending
local limit = tonumber(ARGV[2])
local gone = ending.prune(limit, {completed = tonumber(ARGV[3]), cancelled = tonumber(ARGV[4]), jobs = tonumber(ARGV[5])})
for _, pool in ipairs(call('ZRANGEBYSCORE', P .. 'pools', '-inf', now - 600000, 'LIMIT', 0, limit - gone)) do
  for _, kind in ipairs(call('SMEMBERS', P .. 'pool:' .. pool)) do call('SREM', P .. 'pools-of:' .. kind, pool) end
  call('UNLINK', P .. 'pool:' .. pool, P .. 'credit:' .. pool, P .. 'waiting:' .. pool, P .. 'wake:' .. pool)
  for _, priority in ipairs(PRIORITIES) do call('UNLINK', P .. 'ready:' .. priority .. ':' .. pool) end
  call('ZREM', P .. 'pools', pool)
  gone = gone + 1
end
commit()
return gone
