#!lua flags=allow-oom
-- delete(operation, states, id…): forgets jobs that are not running.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[3] states that are to be deleted
-- Answers for each id {state before, 'deleted'}, or {state, state} if it stays, or nil if there is no such job.
local operating, forgetting, ending = parts.operating, parts.forgetting, parts.ending
local operation = ARGV[2]
local wanted = operating.words(ARGV[3])
local answers = {}

-- Nothing of the jobs is left that could tell a repeat what became of them.
local told = call('GET', P .. 'reply:' .. operation)
if told then
  for state, now_is in string.gmatch(told, '(%S+):(%S+)') do
    answers[#answers + 1] = state ~= '-' and {state, now_is}
  end
  return answers
end

local function delete_one(id)
  local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'group', 'tags', 'retention', 'watched', 'options')
  local state, kind, priority = job[1], job[2], job[3]
  if not state then return false end
  if state == 'processing' or not wanted[state] then return {state, state} end
  if state == 'completed' or state == 'failed' or state == 'cancelled' then
    forgetting.forget_final(id, state, kind, priority, job[5], job[6], job[8])
  else
    operating.leave_place(id, state, kind, priority, job[4] or '')
    forgetting.forget(id, kind, job[5], job[8])
  end
  if job[7] then tell_watchers(id) end
  total('deleted')
  return {state, 'deleted'}
end

local reply = {}
for n = 4, #ARGV do
  local answer = delete_one(ARGV[n])
  answers[n - 3] = answer
  reply[n - 3] = answer and answer[1] .. ':' .. answer[2] or '-:-'
end
if totals.deleted then call('SET', P .. 'reply:' .. operation, table.concat(reply, ' '), 'PX', 60000) end
ending.commit()
commit()
return answers
