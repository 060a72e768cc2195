#!lua
-- uses: operating
-- requeue(operation, states, id…): an operator's retry: finished jobs go back to their lanes with both budgets full again.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[3] states that are to be requeued
-- Answers for each id {state before, state now}, or nil if there is no such job. All others stay as they are.
local operation = ARGV[2]
local wanted = words(ARGV[3])
local answers = {}
for n = 4, #ARGV do
  local id = ARGV[n]
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'retention', 'operation', 'watched')
  local state, kind, priority = job[1], job[2], job[3]
  local before = answered_before(operation, job[6])
  if not state then
    answers[n - 3] = false
  elseif before then
    answers[n - 3] = {before, 'enqueued'} -- even if it has ended again since then
  elseif wanted[state] and (state == 'completed' or state == 'failed' or state == 'cancelled') then
    call('ZREM', P .. 'final:' .. state, id)
    call('ZREM', P .. 'final:' .. state .. ':' .. kind, id)
    if job[5] then call('ZREM', P .. 'expiring', id) end
    call('UNLINK', P .. 'result:' .. id)
    call('HDEL', key, 'errors', 'crashes', 'cancel', 'result', 'finished', 'due', 'progress', 'counted', 'unheard')
    call('HSET', key, 'state', 'enqueued', 'requeued', now, 'operation', operation .. ':' .. state)
    count(state, priority, kind, -1)
    total('requeued')
    enqueue(id, kind, priority, job[4] or '')
    tell_followers(id, job[7])
    answers[n - 3] = {state, 'enqueued'}
  else
    answers[n - 3] = {state, state}
  end
end
commit()
return answers
