#!lua flags=allow-oom
-- cancel(operation, states, id…): waiting jobs end at once; the holder of a running one is told, and its next
-- unsuccessful end is final.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[3] states that are to be cancelled
-- Answers for each id {state before, state now}, or nil if there is no such job. A running job that is to be cancelled
-- counts as 'cancelling'. All others stay as they are.
local operating, ending = parts.operating, parts.ending
local operation = ARGV[2]
local wanted = operating.words(ARGV[3])

local function cancel_one(id)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'session', 'retention', 'watched', 'cancel',
                   'operation', 'callback', 'options')
  local state, kind, priority = job[1], job[2], job[3]
  if not state then return false end
  local before = operating.answered_before(operation, job[9])
  if before then return {before, before == 'processing' and 'cancelling' or 'cancelled'} end
  if state == 'processing' then
    local told = job[8] and 'cancelling' or state
    if not wanted[state] then return {told, told} end
    call('HSET', key, 'cancel', 1)
    if not job[8] then call('HSET', key, 'operation', operation .. ':' .. state) end
    publish('session:' .. job[5], id)
    tell_followers(id, job[7])
    return {told, 'cancelling'}
  end
  if not wanted[state] or state == 'completed' or state == 'failed' or state == 'cancelled' then return {state, state} end
  operating.leave_place(id, state, kind, priority, job[4] or '')
  call('HSET', key, 'state', 'cancelled', 'finished', now, 'operation', operation .. ':' .. state)
  ending.finish(id, kind, priority, 'cancelled', tonumber(job[6] or nil), job[10], job[7], job[11])
  return {state, 'cancelled'}
end

local answers = {}
for n = 4, #ARGV do answers[n - 3] = cancel_one(ARGV[n]) end
ending.commit()
commit()
return answers
