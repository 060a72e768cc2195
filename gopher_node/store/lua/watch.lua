#!lua flags=allow-oom
-- watch(id, what): from now on the job's end is published on the channel `ended`, and if `what` is 'changes', every change
-- before that on `changed`. Answers its state, or nil if there is none.
local key = P .. 'job:' .. ARGV[2]
local job = call('HMGET', key, 'state', 'watched')
local state = job[1]
local level = ARGV[3] == 'changes' and '2' or '1'
if state and state ~= 'completed' and state ~= 'failed' and state ~= 'cancelled' and level > (job[2] or '0') then
  call('HSET', key, 'watched', level)
end
return state
