#!lua flags=allow-oom
-- watch(id): from now on the job's end is published on the channel `ended`. Answers its state, or nil if there is none.
local key = P .. 'job:' .. ARGV[2]
local state = call('HGET', key, 'state')
if state and state ~= 'completed' and state ~= 'failed' and state ~= 'cancelled' then call('HSET', key, 'watched', 1) end
return state
