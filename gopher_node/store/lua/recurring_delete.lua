#!lua flags=allow-oom
-- recurring_delete(operation, name): forgets a recurring job; the jobs that it brought stay, but for one that stands ahead
-- of its time.
--   ARGV[2] id of this operation: told again, it is answered the same
-- Answers 1, or 0 if there is none of this name.
local recurring = parts.recurring
local operation, name = ARGV[2], ARGV[3]
local reply = P .. 'reply:' .. operation
if call('EXISTS', reply) == 1 then return 1 end
local key = P .. 'recurring:' .. name
local had = call('HMGET', key, 'revision', 'ahead', 'job')
if not had[1] then return 0 end
recurring.withdraw(name, had[2], had[3])
call('UNLINK', key)
call('ZREM', P .. 'recurring-due', name)
call('ZREM', P .. 'recurring-names', name)
call('SET', reply, '1', 'PX', 60000)
if made.ending then parts.ending.commit() end
commit()
return 1
