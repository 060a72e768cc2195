#!lua flags=allow-oom
-- purge(type, priority or '', cursor): deletes waiting jobs of a type, up to 200 a call: first those in its lanes, then
-- the scheduled ones, for which it looks through `due` a thousand at a time.
-- Answers {jobs deleted, cursor for the next call, or '' when all are gone}.
local kind, only, cursor = ARGV[2], ARGV[3], tonumber(ARGV[4])
local LIMIT, LOOK = 200, 1000
local gone = 0

local function drop(id, state, priority, tags, watched)
  count(state, priority, kind, -1)
  forget(id, kind, tags)
  if watched then tell_watchers(id) end
  total('purged')
  gone = gone + 1
end

for _, priority in ipairs(PRIORITIES) do
  if only == '' or only == priority then
    local groups = P .. 'groups:' .. priority .. ':' .. kind
    while gone < LIMIT do
      local group = call('ZRANGE', groups, 0, 0)[1]
      if not group then break end
      local popped = call('ZPOPMIN', P .. 'lane:' .. priority .. ':' .. kind .. ':' .. group, LIMIT - gone)
      for i = 1, #popped, 2 do
        drop(popped[i], 'enqueued', priority, unpack(call('HMGET', P .. 'job:' .. popped[i], 'tags', 'watched')))
      end
      tidy_lane(priority, kind, group)
    end
  end
end

if gone < LIMIT then
  local ids = call('ZRANGE', P .. 'due', cursor, cursor + LOOK - 1)
  local looked = 0
  for _, id in ipairs(ids) do
    if gone >= LIMIT then break end
    looked = looked + 1
    local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority', 'tags', 'watched')
    if job[1] == kind and (only == '' or only == job[2]) then
      call('ZREM', P .. 'due', id)
      drop(id, 'scheduled', job[2], job[3], job[4])
    else
      cursor = cursor + 1
    end
  end
  if looked == #ids and #ids < LOOK then cursor = nil end
end
commit()
return {gone, cursor and string.format('%.0f', cursor) or ''}
