-- What the scripts of operators share, and others that take a job from where it waits.

-- What tells an operation again, because its answer was lost, from one that is new: a job that it changed has its id, and
-- behind that the state before. Where no job is left to have it, the answer itself is kept, as reply:<operation>.
local function answered_before(operation, mark)
  if mark and string.sub(mark, 1, #operation + 1) == operation .. ':' then return string.sub(mark, #operation + 2) end
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do found[word] = true end
  return found
end

-- A lane may have run empty: then its group leaves the turn order, and with the last group its type.
local function tidy_lane(priority, kind, group)
  if call('EXISTS', P .. 'lane:' .. priority .. ':' .. kind .. ':' .. group) == 1 then return end
  local groups = P .. 'groups:' .. priority .. ':' .. kind
  leave_turns(priority, kind, group)
  if call('EXISTS', groups) == 1 then return end
  for _, pool in ipairs(pools_of(kind)) do
    call('ZREM', P .. 'ready:' .. priority .. ':' .. pool, kind)
  end
end

-- leave_place(...): a job that is enqueued, scheduled or blocked no longer stands where such jobs wait.
local function leave_place(id, state, kind, priority, group)
  if state == 'enqueued' then
    call('ZREM', P .. 'lane:' .. priority .. ':' .. kind .. ':' .. group, id)
    tidy_lane(priority, kind, group)
  else
    call('ZREM', P .. (state == 'scheduled' and 'due' or 'blocked'), id)
  end
  count(state, priority, kind, -1)
end

return {answered_before = answered_before, words = words, tidy_lane = tidy_lane, leave_place = leave_place}
