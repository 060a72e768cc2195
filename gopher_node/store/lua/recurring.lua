-- What the scripts of recurring jobs share: where one stands, and how its first job goes again that is stored ahead of time.
--
--   recurring:<name>  HASH  content payload: what it is, as JSON of recurring.py, and its jobs' payload; overlap, missed
--                           revision: of the last change of these; anchor created updated
--                           paused; next: when it fires next, absent if it does not
--                           last job: the last time for which it fired, and the id of that job; ahead: that time again, if
--                           its job was stored before it
--                           manual: id of the last job that somebody triggered
--                           skipped why: the last time for which it did not fire, and why: missed or overlapped
--                           fired missed-fires overlapped triggered: how often
--                           told: "<operation> <outcome> <job>" of the last step, to be told again
--   recurring-due     ZSET  name by `next`
--   recurring-names   ZSET  name, all with the score 0, so that they are listed in order

-- withdraw(name, ahead, id): a job that was stored ahead of its time has not begun before that, and is forgotten if the
-- schedule is none any more. Returns whether it was.
local function withdraw(name, ahead, id)
  if not ahead or tonumber(ahead) <= now then return false end
  local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'group', 'tags', 'watched', 'options')
  if job[1] ~= 'scheduled' then return false end
  parts.operating.leave_place(id, job[1], job[2], job[3], job[4] or '')
  parts.forgetting.forget(id, job[2], job[5], job[7])
  if job[6] then tell_watchers(id) end
  total('deleted')
  call('HDEL', P .. 'recurring:' .. name, 'last', 'job', 'ahead')
  call('HINCRBY', P .. 'recurring:' .. name, 'fired', -1)
  return true
end

local function stand_at(name, next_fire)
  if next_fire == '' then
    call('HDEL', P .. 'recurring:' .. name, 'next')
    call('ZREM', P .. 'recurring-due', name)
  else
    call('HSET', P .. 'recurring:' .. name, 'next', next_fire)
    call('ZADD', P .. 'recurring-due', next_fire, name)
  end
end

return {withdraw = withdraw, stand_at = stand_at}
