#!lua flags=no-writes
-- list(limit, look, source, score, id, states, type, priority, group, tag, after, before): a page of jobs.
--   ARGV[2] jobs wanted; ARGV[3] jobs looked at, at most
--   ARGV[4..6] where the last page ended: source, score, id; all '' for the first; id '' where it ended before a source
--   ARGV[7] wanted states, separated by spaces; ARGV[8..11] '' or what must match; ARGV[12..13] '' or creation in ms
-- Answers {source, score, id where the page ended, or '' three times after the last; id…}.
-- Running and waiting jobs come first, in the order in which they will be seen to; finished ones follow, the latest first.
-- With a tag, jobs come by creation, the latest first.
local wanted, look = tonumber(ARGV[2]), tonumber(ARGV[3])
local from = {source = ARGV[4], score = ARGV[5], id = ARGV[6]}
local kind, priority, group, tag = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local after, before = tonumber(ARGV[12]), tonumber(ARGV[13])
local states = {}
for state in string.gmatch(ARGV[7], '%S+') do states[state] = true end

local function matches(id)
  local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'group', 'created')
  if not job[1] or not states[job[1]] then return false end
  if kind ~= '' and job[2] ~= kind then return false end
  if priority ~= '' and job[3] ~= priority then return false end
  if group ~= '' and (job[4] or '') ~= group then return false end
  local created = tonumber(job[5])
  return not (after and created < after) and not (before and created >= before)
end

-- The rank at which a source is taken up again. If the last page's job has gone or moved, the walk goes on from its score.
local function resume(name, key, latest_first)
  if name ~= from.source or from.id == '' then return 0 end
  if tonumber(call('ZSCORE', key, from.id) or nil) == tonumber(from.score) then
    return call(latest_first and 'ZREVRANK' or 'ZRANK', key, from.id) + 1
  end
  if latest_first then return call('ZCOUNT', key, '(' .. from.score, '+inf') end
  return call('ZCOUNT', key, '-inf', '(' .. from.score)
end

-- walk(...): looks at the jobs of one source. Returns true when the page ends there.
local answer, looked = {'', '', ''}, 0
local function walk(name, key, latest_first)
  local rank = resume(name, key, latest_first)
  while true do
    local found = call(latest_first and 'ZREVRANGE' or 'ZRANGE', key, rank, rank + 99, 'WITHSCORES')
    for i = 1, #found, 2 do
      if #answer - 3 >= wanted or looked >= look then return true end
      looked = looked + 1
      if matches(found[i]) then answer[#answer + 1] = found[i] end
      answer[1], answer[2], answer[3] = name, found[i + 1], found[i]
    end
    if #found < 200 then return false end
    rank = rank + 100
  end
end

-- Sources are walked in one order: their stages; lanes by priority, type and group. So what has vanished since the last
-- page has a place too, and the walk goes on behind it.
local stage = string.sub(from.source, 1, 1)
local function walk_stage(name, key, latest_first)
  return name >= stage and walk(name, P .. key, latest_first)
end

-- A lane counts as looked at, as a job does: a filter may leave all of them out.
local function walk_lane(level, name, group)
  local at = string.format('2:%d:%s:%s', 4 - level, name, group)
  if looked >= look then
    answer[1], answer[2], answer[3] = at, '0', ''
    return true
  end
  local before = looked
  if walk(at, P .. 'lane:' .. level .. ':' .. name .. ':' .. group) then return true end
  if looked == before then looked = looked + 1 end
  return false
end

-- The lanes of a type at a level, from a group on. They are read as far as the page reaches.
local function walk_groups(level, name, first)
  if group ~= '' then return group >= first and walk_lane(level, name, group) end
  if first == '' and walk_lane(level, name, '') then return true end
  local lanes, start = P .. 'lanes:' .. level .. ':' .. name, first == '' and '-' or '[' .. first
  while true do
    local found = call('ZRANGEBYLEX', lanes, start, '+', 'LIMIT', 0, 100)
    for _, member in ipairs(found) do
      if walk_lane(level, name, member) then return true end
    end
    if #found < 100 then return false end
    start = '(' .. found[100]
  end
end

local function walk_lanes()
  if stage > '2' then return false end
  local kinds = {}
  for n = 1, 4 do kinds[n] = {kind ~= '' and kind or nil} end
  if kind == '' then
    local all = call('HKEYS', P .. 'counts')
    for i = 1, #all do
      local level, name = string.match(all[i], '^enqueued:(%d):(.*)$')
      if name then table.insert(kinds[5 - level], name) end
    end
  end
  local from_level, from_kind, from_group = string.match(from.source, '^2:([0-3]):([^:]*):(.*)$')
  for n, level in ipairs(PRIORITIES) do
    local reached = not from_level or n - 1 > tonumber(from_level)
    if (reached or n - 1 == tonumber(from_level)) and (priority == '' or priority == level) then
      table.sort(kinds[n])
      for _, name in ipairs(kinds[n]) do
        if reached or name >= from_kind then
          if walk_groups(level, name, not reached and name == from_kind and from_group or '') then return true end
        end
      end
    end
  end
  return false
end

local typed = kind ~= '' and ':' .. kind or ''
local full
if tag ~= '' then
  full = walk_stage('0', 'tag:' .. tag, true)
else
  full = states.processing and walk_stage('1', 'processing')
    or states.enqueued and walk_lanes()
    or states.scheduled and walk_stage('3', 'due')
    or states.blocked and walk_stage('4', 'blocked')
    or states.failed and walk_stage('5', 'final:failed' .. typed, true)
    or states.completed and walk_stage('6', 'final:completed' .. typed, true)
    or states.cancelled and walk_stage('7', 'final:cancelled' .. typed, true)
end
if not full then answer[1], answer[2], answer[3] = '', '', '' end
return answer
