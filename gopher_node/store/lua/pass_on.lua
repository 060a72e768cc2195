#!lua flags=allow-oom
-- pass_on(pool): somebody who no longer waits has taken a wake-up of this pool, or may have. If there is work that it may
-- have been for, another gets one. If one lies ready, nobody listens, and whoever comes takes that.
local list = P .. 'wake:' .. ARGV[2]
local work = false
for _, priority in ipairs(PRIORITIES) do
  work = work or call('EXISTS', P .. 'ready:' .. priority .. ':' .. ARGV[2]) == 1
end
if work and call('EXISTS', list) == 0 then
  call('RPUSH', list, '1')
  call('PEXPIRE', list, 10000)
end
return 1
