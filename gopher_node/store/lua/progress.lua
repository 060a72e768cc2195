#!lua
-- progress(id, attempt, nonce, value): stores how far a run is. Answers 'ok', 'cancel' if it should stop, or 'stale'.
local key = P .. 'job:' .. ARGV[2]
local job = call('HMGET', key, 'state', 'attempt', 'nonce', 'cancel', 'watched')
if job[1] ~= 'processing' or job[2] ~= ARGV[3] or job[3] ~= ARGV[4] then return 'stale' end
call('HSET', key, 'progress', ARGV[5])
tell_followers(ARGV[2], job[5])
commit()
return job[4] and 'cancel' or 'ok'
