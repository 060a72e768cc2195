#!lua flags=allow-oom
-- uses: storing operating
-- edit(operation, id, priority or '', due or '', delay or ''): gives a job that is scheduled or enqueued another priority,
-- another due time, or both. It moves to where these say; in a lane it goes behind those that wait there.
--   ARGV[2] id of this operation: told again, it is answered the same
-- Answers the state before, or nil if there is no such job. A job that is neither stays as it is.
local operation, id = ARGV[2], ARGV[3]
local key = P .. 'job:' .. id
local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'operation', 'watched', 'due')
local state, kind, priority, group = job[1], job[2], job[3], job[4] or ''
if not state then return false end
local before = answered_before(operation, job[5])
if before then return before end
if state ~= 'scheduled' and state ~= 'enqueued' then return state end

local wanted = ARGV[4] ~= '' and ARGV[4] or priority
local due = due_time(ARGV[5], ARGV[6], now)
local becomes = state
if due then becomes = due > now and 'scheduled' or 'enqueued' end

local moves = becomes ~= state or wanted ~= priority
if moves then leave_place(id, state, kind, priority, group) end
local fields = {'state', becomes, 'priority', wanted, 'operation', operation .. ':' .. state}
if due then
  fields[7], fields[8] = 'due', due
end
call('HSET', key, unpack(fields))
tell_followers(id, job[6])
if becomes == 'scheduled' then
  call('ZADD', P .. 'due', due or job[7], id)
  if moves then count(becomes, wanted, kind, 1) end
elseif moves then
  enqueue(id, kind, wanted, group)
end
commit()
return state
