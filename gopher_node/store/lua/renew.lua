#!lua flags=allow-oom
-- renew(session): the holder lives. Answers 1, or 0 if the session was reaped or closed.
local session = ARGV[2]
local record = call('HGET', P .. 'sessions', session)
if not record or call('EXISTS', P .. 'session:' .. session) == 0 then return 0 end
local renewals, rest = string.match(record, '^(%d+)(:.*)$')
call('HSET', P .. 'sessions', session, string.format('%.0f%s', renewals + 1, rest))
return 1
