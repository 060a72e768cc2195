#!lua flags=allow-oom
-- purge(type, priority or '', cursor, operation): deletes waiting jobs of a type, up to 200 a call: first those in its
-- lanes, then the scheduled ones, for which it looks through `due` a thousand at a time.
--   ARGV[4] '0', then the cursor of the last call: score and id of the last job looked at that stays
--   ARGV[5] id of this call: told again, it is answered the same
-- Answers {jobs deleted, cursor for the next call, or '' when all are gone}.
local forgetting, ending, operating = parts.forgetting, parts.ending, parts.operating
local kind, only, cursor, operation = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local LIMIT, LOOK = 200, 1000
local gone = 0

local told = call('GET', P .. 'reply:' .. operation)
if told then
  local number, next_cursor = string.match(told, '^(%d+) (.*)$')
  return {tonumber(number), next_cursor}
end

local function drop(id, state, priority, tags, watched, options)
  count(state, priority, kind, -1)
  forgetting.forget(id, kind, tags, options)
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
        drop(popped[i], 'enqueued', priority, unpack(call('HMGET', P .. 'job:' .. popped[i], 'tags', 'watched', 'options')))
      end
      operating.tidy_lane(priority, kind, group)
    end
  end
end

if gone < LIMIT then
  local due, rank = P .. 'due', 0
  local score, last = string.match(cursor, '^(%S+) (.*)$')
  if last then
    -- No rank is kept: it shifts when jobs before it leave, and others would be passed over.
    if tonumber(call('ZSCORE', due, last) or nil) == tonumber(score) then
      rank = call('ZRANK', due, last) + 1
    else
      rank = call('ZCOUNT', due, '-inf', '(' .. score)
    end
  end
  local found = call('ZRANGE', due, rank, rank + LOOK - 1, 'WITHSCORES')
  local looked = 0
  for i = 1, #found, 2 do
    if gone >= LIMIT then break end
    local id = found[i]
    looked = looked + 1
    local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority', 'tags', 'watched', 'options')
    if job[1] == kind and (only == '' or only == job[2]) then
      call('ZREM', due, id)
      drop(id, 'scheduled', job[2], job[3], job[4], job[5])
    else
      cursor = found[i + 1] .. ' ' .. id
    end
  end
  if 2 * looked == #found and looked < LOOK then cursor = '' end
end
if gone > 0 then call('SET', P .. 'reply:' .. operation, gone .. ' ' .. cursor, 'PX', 60000) end
ending.commit()
commit()
return {gone, cursor}
