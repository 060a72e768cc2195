#!lua flags=no-writes
-- list(limit, look, source, score, id, states, type, priority, group, tag, after, before): a page of jobs.
--   ARGV[2] jobs wanted; ARGV[3] jobs looked at, at most
--   ARGV[4..6] where the last page ended: source, score, id; all '' for the first
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

-- Sources are walked in the order of their names, so that a source that has vanished since the last page has a place too.
local sources = {}
local function source(name, key, latest_first)
  if name >= from.source then sources[#sources + 1] = {name = name, key = P .. key, latest_first = latest_first} end
end

local function lanes()
  local kinds = {}
  if kind ~= '' then
    kinds[1] = kind
  else
    local all, seen = call('HGETALL', P .. 'counts'), {}
    for i = 1, #all, 2 do
      local name = string.match(all[i], '^enqueued:%d:(.*)$')
      if name and all[i + 1] ~= '0' and not seen[name] then
        seen[name] = true
        kinds[#kinds + 1] = name
      end
    end
  end
  for _, name in ipairs(kinds) do
    for _, level in ipairs(PRIORITIES) do
      if priority == '' or priority == level then
        for _, member in ipairs(call('ZRANGE', P .. 'groups:' .. level .. ':' .. name, 0, -1)) do
          if group == '' or group == member then
            source(string.format('2:%d:%s:%s', 4 - level, name, member), 'lane:' .. level .. ':' .. name .. ':' .. member)
          end
        end
      end
    end
  end
end

if tag ~= '' then
  source('0', 'tag:' .. tag, true)
else
  local typed = kind ~= '' and ':' .. kind or ''
  if states.processing then source('1', 'processing') end
  if states.enqueued then lanes() end
  if states.scheduled then source('3', 'due') end
  if states.blocked then source('4', 'blocked') end
  if states.failed then source('5', 'final:failed' .. typed, true) end
  if states.completed then source('6', 'final:completed' .. typed, true) end
  if states.cancelled then source('7', 'final:cancelled' .. typed, true) end
  table.sort(sources, function(a, b) return a.name < b.name end)
end

local function matches(id)
  local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'group', 'created')
  if not job[1] or not states[job[1]] then return false end
  if kind ~= '' and job[2] ~= kind then return false end
  if priority ~= '' and job[3] ~= priority then return false end
  if group ~= '' and (job[4] or '') ~= group then return false end
  local created = tonumber(job[5])
  return not (after and created < after) and not (before and created >= before)
end

-- The rank at which a source is taken up again. If the last page's job has gone, the walk goes on from its score.
local function resume(at)
  if at.name ~= from.source or from.id == '' then return 0 end
  local rank = call(at.latest_first and 'ZREVRANK' or 'ZRANK', at.key, from.id)
  if rank then return rank + 1 end
  if at.latest_first then return call('ZCOUNT', at.key, '(' .. from.score, '+inf') end
  return call('ZCOUNT', at.key, '-inf', '(' .. from.score)
end

local answer, looked = {'', '', ''}, 0
for _, at in ipairs(sources) do
  local rank = resume(at)
  while true do
    local found = call(at.latest_first and 'ZREVRANGE' or 'ZRANGE', at.key, rank, rank + 99, 'WITHSCORES')
    for i = 1, #found, 2 do
      if #answer - 3 >= wanted or looked >= look then return answer end
      looked = looked + 1
      if matches(found[i]) then answer[#answer + 1] = found[i] end
      answer[1], answer[2], answer[3] = at.name, found[i + 1], found[i]
    end
    if #found < 200 then break end
    rank = rank + 100
  end
end
answer[1], answer[2], answer[3] = '', '', ''
return answer
