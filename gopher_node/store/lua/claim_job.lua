#!lua flags=allow-oom
-- claim_job(id, session, nonce, node, lease, timeout, grace): takes one waiting job out of its lane, under an HTTP lease.
-- It is open: whoever knows the job's id may settle it. Who names a job gets it whatever bounds its type; it counts as one
-- that runs.
--   ARGV[3] id of this claim: told again, it is answered again as long as it holds the job, and never takes it anew
--   ARGV[6] ms of the lease; ARGV[7] ms to the hard deadline of a job without a timeout; ARGV[8] ms beyond a job's own
-- Answers the job as get.lua does, then the end of its lease in ms; or its state if that is not `enqueued`; or nil if there
-- is no such job.
local operating = parts.operating
local id, session, nonce, node, lease = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local key = P .. 'job:' .. id
local job = call('HMGET', key, 'state', 'session', 'type', 'priority', 'group', 'attempt', 'timeout', 'watched', 'options')
local state, kind, priority, group = job[1], job[3], job[4], job[5] or ''
if not state then return false end
if state ~= (job[2] == session and 'processing' or 'enqueued') then return state end

if state == 'enqueued' and job[9] and parts.unique.has_expired(id) then return 'cancelled' end -- as good as that, and soon that

if state == 'enqueued' then
  if job[9] then parts.unique.starts(id, kind, job[9]) end
  local deadline = now + (job[7] and job[7] + ARGV[8] or ARGV[7])
  call('HSET', key, 'state', 'processing', 'attempt', (job[6] or 0) + 1, 'nonce', nonce, 'session', session, 'node', node,
       'started', now, 'lease', lease, 'deadline', deadline, 'open', 1)
  operating.leave_place(id, state, kind, priority, group)
  call('ZADD', P .. 'processing', math.min(now + lease, deadline), id)
  count('processing', priority, kind, 1)
  if group ~= '' then parts.limits.run_begins(kind, group) end
  tell_followers(id, job[8])
  commit()
end
return {id, call('HGETALL', key), call('GET', P .. 'payload:' .. id), false,
        call('LRANGE', P .. 'attempts:' .. id, 0, -1), tonumber(call('ZSCORE', P .. 'processing', id))}
