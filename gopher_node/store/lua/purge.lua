#!lua flags=allow-oom
-- purge(type, priority or '', cursor, operation): deletes waiting jobs of a type, up to 200 a call: first the blocked ones,
-- for which it looks through `blocked` a thousand at a time, for the others would release them; then those in its lanes, then
-- the scheduled ones, likewise.
--   ARGV[4] '0', then the cursor of the last call: where it looks, and score and id of the last job looked at that stays
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

-- walk(index, state): goes on through an index of all types, from where the cursor says. Returns whether it came to the end;
-- if not, the cursor says how far.
local function walk(index, state)
  local rank = 0
  local score, last = string.match(cursor, '^' .. index .. ' (%S+) (.*)$')
  if last then
    -- No rank is kept: it shifts when jobs before it leave, and others would be passed over.
    if tonumber(call('ZSCORE', P .. index, last) or nil) == tonumber(score) then
      rank = call('ZRANK', P .. index, last) + 1
    else
      rank = call('ZCOUNT', P .. index, '-inf', '(' .. score)
    end
  end
  local found = call('ZRANGE', P .. index, rank, rank + LOOK - 1, 'WITHSCORES')
  local looked = 0
  for i = 1, #found, 2 do
    if gone >= LIMIT then break end
    local id = found[i]
    looked = looked + 1
    local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority', 'tags', 'watched', 'options')
    if job[1] == kind and (only == '' or only == job[2]) then
      call('ZREM', P .. index, id)
      drop(id, state, job[2], job[3], job[4], job[5])
    else
      cursor = index .. ' ' .. found[i + 1] .. ' ' .. id
    end
  end
  return 2 * looked == #found and looked < LOOK
end

local waits_for_none = cursor ~= '0' and string.sub(cursor, 1, 8) ~= 'blocked '
if not waits_for_none and walk('blocked', 'blocked') then cursor, waits_for_none = 'due', true end
if waits_for_none then
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
  if gone < LIMIT and walk('due', 'scheduled') then cursor = '' end
end
if gone > 0 then call('SET', P .. 'reply:' .. operation, gone .. ' ' .. cursor, 'PX', 60000) end
ending.commit()
commit()
return {gone, cursor}
