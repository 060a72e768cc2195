#!lua flags=allow-oom
-- count_error(id, attempt, nonce): counts the error of a run that has not ended yet; once, whatever else is said of it.
-- Answers the job's number of errors, or nil if the lease is no longer the job's.
local key = P .. 'job:' .. ARGV[2]
local job = call('HMGET', key, 'state', 'attempt', 'nonce', 'counted', 'errors', 'watched')
if job[1] ~= 'processing' or job[2] ~= ARGV[3] or job[3] ~= ARGV[4] then return false end
local errors = tonumber(job[5] or nil) or 0
if job[4] ~= ARGV[3] then
  errors = errors + 1
  call('HSET', key, 'errors', errors, 'counted', ARGV[3])
  tell_followers(ARGV[2], job[6])
end
commit()
return errors
