#!lua
-- requeue(operation, n, id…): an operator's retry: finished jobs go back to their lanes with both budgets full again.
--   ARGV[2] id of this operation: told again, a job that it has already requeued is answered 'enqueued' again
-- Answers for each id {state before, state now}, or nil if there is no such job. Jobs that have not ended stay as they are.
local operation = ARGV[2]
local answers = {}
for n = 1, tonumber(ARGV[3]) do
  local id = ARGV[3 + n]
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'retention', 'operation')
  local state, kind, priority = job[1], job[2], job[3]
  if not state then
    answers[n] = false
  elseif job[6] and string.sub(job[6], 1, #operation + 1) == operation .. ':' then
    answers[n] = {string.sub(job[6], #operation + 2), 'enqueued'} -- even if it has ended again since then
  elseif state == 'completed' or state == 'failed' or state == 'cancelled' then
    call('ZREM', P .. 'final:' .. state, id)
    call('ZREM', P .. 'final:' .. state .. ':' .. kind, id)
    if job[5] then call('ZREM', P .. 'expiring', id) end
    call('UNLINK', P .. 'result:' .. id)
    call('HDEL', key, 'errors', 'crashes', 'cancel', 'result', 'finished', 'due', 'progress')
    call('HSET', key, 'state', 'enqueued', 'operation', operation .. ':' .. state)
    count(state, priority, kind, -1)
    total('requeued')
    enqueue(id, kind, priority, job[4] or '')
    answers[n] = {state, 'enqueued'}
  else
    answers[n] = {state, state}
  end
end
commit()
return answers
