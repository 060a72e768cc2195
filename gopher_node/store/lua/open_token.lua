#!lua flags=no-writes
-- open_token(id): answers {attempt, nonce} of a running job that may be settled without a token, or nil.
local job = call('HMGET', P .. 'job:' .. ARGV[2], 'state', 'open', 'attempt', 'nonce')
if job[1] ~= 'processing' or not job[2] then return false end
return {job[3], job[4]}
