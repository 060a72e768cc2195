#!lua
-- requeue(operation, states, id…): an operator's retry: finished jobs go back to their lanes with both budgets full again,
-- or wait for those of the jobs they depend on that have not ended.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[3] states that are to be requeued
-- Answers for each id {state before, state now}, or nil if there is no such job. All others stay as they are: one that has
-- outlived its deadline, and one whose name another bears, whose id is then told behind the states.
local operating = parts.operating
local operation = ARGV[2]
local wanted = operating.words(ARGV[3])
local answers = {}
for n = 4, #ARGV do
  local id = ARGV[n]
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'retention', 'operation', 'watched', 'options', 'created')
  local state, kind, priority = job[1], job[2], job[3]
  local before = operating.answered_before(operation, job[6])
  if not state then
    answers[n - 3] = false
  elseif before then
    answers[n - 3] = {before, 'enqueued'} -- even if it has ended again since then
  elseif not wanted[state] or state ~= 'completed' and state ~= 'failed' and state ~= 'cancelled' then
    answers[n - 3] = {state, state}
  elseif job[8] and parts.unique.has_expired(id) then
    answers[n - 3] = {state, state, ''}
  elseif job[8] and parts.unique.name_taken(id, kind, job[8]) then
    answers[n - 3] = {state, state, parts.unique.name_taken(id, kind, job[8])}
  else
    call('ZREM', P .. 'final:' .. state, id)
    call('ZREM', P .. 'final:' .. state .. ':' .. kind, id)
    if job[5] then call('ZREM', P .. 'expiring', id) end
    call('UNLINK', P .. 'result:' .. id)
    call('HDEL', key, 'errors', 'crashes', 'cancel', 'result', 'finished', 'due', 'progress', 'counted', 'unheard', 'error',
         'outlived', 'pending')
    local links = parts.dependents.read_options(job[8])
    local pending = links and parts.dependents.await(id, links, true) or 0
    if links and links.workflow then parts.dependents.member_again(id, links.workflow, state) end
    call('HSET', key, 'state', pending > 0 and 'blocked' or 'enqueued', 'requeued', now, 'operation', operation .. ':' .. state)
    count(state, priority, kind, -1)
    total('requeued')
    if pending > 0 then
      call('HSET', key, 'pending', pending)
      call('ZADD', P .. 'blocked', job[9], id)
      count('blocked', priority, kind, 1)
    else
      enqueue(id, kind, priority, job[4] or '')
    end
    tell_followers(id, job[7])
    if job[8] then parts.unique.wait_again(id, kind, job[8]) end
    answers[n - 3] = {state, 'enqueued'}
  end
end
commit()
return answers
