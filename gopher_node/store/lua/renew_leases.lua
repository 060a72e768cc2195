#!lua flags=allow-oom
-- renew_leases(n, memory, grace, (id, attempt, nonce, lease, progress)…): the workers that hold these HTTP leases live: each
-- lasts its length again from now on, but not beyond its hard deadline.
--   ARGV[2] number of leases; ARGV[3] ms for which a claim with a key is remembered beyond its jobs' leases; ARGV[4] ms in
--     which a run whose job is to be cancelled has to end
--   then for each: id, attempt, nonce, its new length in ms or '', how far the run is or ''
-- A claim with a key of its caller's is remembered for as long as its jobs run, so that a repeat of it gets no others.
-- Answers for each {end of the lease in ms, 1 if the job is to be cancelled else 0}, or nil if it is no longer the job's.
-- The first heartbeat that is told of the cancel sets the hard deadline to the end of the grace; past that, a lease is nobody's
-- any more, whether or not a reaper has been there.
-- A node's own lease is left as it is: that lives by its session. A full store does not stop a progress that comes with
-- a heartbeat, or the lease would be lost by it; the caller bounds its size.
local answers = {}
for n = 1, tonumber(ARGV[2]) do
  local id, attempt, nonce, length, progress = unpack(ARGV, 5 * n, 5 * n + 4)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'attempt', 'nonce', 'cancel', 'lease', 'deadline', 'unheard', 'watched',
                   'session')
  local ignored = job[4] and job[5] and now >= tonumber(job[6])
  if job[1] ~= 'processing' or job[2] ~= attempt or job[3] ~= nonce or ignored then
    answers[n] = false
  else
    local ends
    if job[5] then
      local lease, deadline = tonumber(length) or tonumber(job[5]), tonumber(job[6])
      if job[4] then
        deadline = math.min(deadline, now + ARGV[4]) -- told again, it stays where it is
        call('HSET', key, 'deadline', deadline)
      end
      ends = math.min(now + lease, deadline)
      call('HSET', key, 'renewed', now, 'lease', lease)
      call('ZADD', P .. 'processing', ends, id)
      if job[7] then call('HDEL', key, 'unheard') end
      if string.sub(job[9], 1, 9) == 'http-key-' then
        call('PEXPIRE', P .. 'session:' .. job[9], ends - now + ARGV[3], 'GT')
      end
    else
      ends = tonumber(call('ZSCORE', P .. 'processing', id))
    end
    if progress ~= '' then
      call('HSET', key, 'progress', progress)
      tell_followers(id, job[8])
    end
    answers[n] = {ends, job[4] and 1 or 0}
  end
end
commit()
return answers
