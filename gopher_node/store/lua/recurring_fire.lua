#!lua
-- recurring_fire(operation, name, revision, due, fire, next, missed, job…): a recurring job that has this revision, stands
-- at the fire `due` and is due fires for the time `fire`, '' for not at all, and stands at `next` from then on. With `due`
-- as '' somebody triggers it: it stands where it stood.
--   ARGV[2] id of this operation: told again, it is answered the same; ARGV[8] fires that are given up with this one;
--   ARGV[9…] the fields of the job, whose id follows from the fire
-- Answers {'fired' | 'overlapped' if its last job has not ended | 'missed' | 'triggered', job's id or nil}; or, with nothing
-- changed, {'gone' | 'changed' | 'late' if it has left that fire | 'early'}.
local storing, recurring = parts.storing, parts.recurring
local operation, name, revision, due, fire, next_fire, missed = unpack(ARGV, 2, 8)
local key = P .. 'recurring:' .. name
local had = call('HMGET', key, 'revision', 'next', 'overlap', 'job', 'manual', 'told')
if not had[1] then return {'gone'} end
local told, outcome, job = string.match(had[6] or '', '^(%S+) (%S+) (%S*)$')
if told == operation then return {outcome, job ~= '' and job} end
if due == '' and call('EXISTS', P .. 'job:' .. ARGV[9]) == 1 then return {'triggered', ARGV[9]} end -- other steps came between
if had[1] ~= revision then return {'changed'} end
if due ~= '' and had[2] ~= due then return {'late'} end
if due ~= '' and tonumber(due) > now then return {'early'} end

-- One that has expired will not run any more, even if the tick that ends it has not been here yet.
local function runs(id)
  local state, expires = unpack(call('HMGET', P .. 'job:' .. (id or ''), 'state', 'expires'))
  if state ~= 'processing' and expires and tonumber(expires) <= now then return false end
  return state and state ~= 'completed' and state ~= 'failed' and state ~= 'cancelled'
end

job = ''
if due == '' then
  outcome = 'triggered'
elseif fire == '' then
  outcome = 'missed'
elseif had[3] == 'skip' and (runs(had[4]) or runs(had[5])) then
  outcome = 'overlapped'
else
  outcome = 'fired'
end
if outcome == 'fired' or outcome == 'triggered' then
  job = ARGV[9]
  storing.store_job(9)
end
if due ~= '' then
  recurring.stand_at(name, next_fire)
  call('HDEL', key, 'ahead')
end
if outcome == 'triggered' then
  call('HSET', key, 'manual', job)
elseif outcome == 'fired' then
  call('HSET', key, 'last', fire, 'job', job)
else
  call('HSET', key, 'skipped', fire ~= '' and fire or due, 'why', outcome)
end
if outcome ~= 'missed' then call('HINCRBY', key, outcome, 1) end
if tonumber(missed) > 0 then call('HINCRBY', key, 'missed-fires', missed) end
call('HSET', key, 'told', operation .. ' ' .. outcome .. ' ' .. job)
if made.dependents then parts.ending.commit() end
commit()
return {outcome, job ~= '' and job}
