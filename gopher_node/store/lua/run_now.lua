#!lua flags=allow-oom
-- run_now(operation, states, id…): scheduled jobs are due now, and go into their lanes.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[3] states that are meant
-- Answers for each id {state before, state now}, or nil if there is no such job. All others stay as they are.
local operating = parts.operating
local operation = ARGV[2]
local wanted = operating.words(ARGV[3])
local answers = {}
for n = 4, #ARGV do
  local id = ARGV[n]
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'operation', 'watched')
  local state = job[1]
  local before = operating.answered_before(operation, job[5])
  if not state then
    answers[n - 3] = false
  elseif before then
    answers[n - 3] = {before, 'enqueued'}
  elseif wanted[state] and state == 'scheduled' then
    operating.leave_place(id, state, job[2], job[3], job[4] or '')
    call('HSET', key, 'state', 'enqueued', 'due', now, 'operation', operation .. ':' .. state)
    enqueue(id, job[2], job[3], job[4] or '')
    tell_followers(id, job[6])
    answers[n - 3] = {state, 'enqueued'}
  else
    answers[n - 3] = {state, state}
  end
end
commit()
return answers
