#!lua flags=no-writes
-- workflows('get', id) | workflows('list', limit, score, id) | workflows('members', workflow, limit, score, id): what there is.
--   score, id: where the last page ended, or ''
-- Answers to 'get' and 'list', for each, {id, {field, value…}, {state, number…}}: the last are of members that have not
-- ended, of which 10,000 are looked at in all; to 'members' {score, id where the page ended, or '' twice; id…}, or nil if there is
-- no such workflow.
local LOOK = 10000
local verb = ARGV[2]

local function describe(id)
  local record = call('HGETALL', P .. 'workflow:' .. id)
  if not record[1] then return false end
  local states, flat = {}, {}
  local unfinished = LOOK > 0 and call('ZRANGE', P .. 'unfinished:' .. id, 0, LOOK - 1) or {}
  LOOK = LOOK - #unfinished
  for _, member in ipairs(unfinished) do
    local state = call('HGET', P .. 'job:' .. member, 'state') or ''
    states[state] = (states[state] or 0) + 1
  end
  for state, number in pairs(states) do
    flat[#flat + 1] = state
    flat[#flat + 1] = number
  end
  return {id, record, flat}
end

local answers = {}
if verb == 'get' then return {describe(ARGV[3])} end
if verb == 'list' then
  local limit, score, id, rank = tonumber(ARGV[3]), ARGV[4], ARGV[5], 0
  local key = P .. 'workflows'
  if id ~= '' then
    if tonumber(call('ZSCORE', key, id) or nil) == tonumber(score) then
      rank = call('ZREVRANK', key, id) + 1
    else
      rank = call('ZCOUNT', key, '(' .. score, '+inf')
    end
  end
  for n, found in ipairs(call('ZREVRANGE', key, rank, rank + limit - 1)) do answers[n] = describe(found) end
  return answers
end

local workflow, limit, score, id, rank = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], 0
local key = P .. 'members:' .. workflow
if call('EXISTS', P .. 'workflow:' .. workflow) == 0 then return false end
if id ~= '' then
  if tonumber(call('ZSCORE', key, id) or nil) == tonumber(score) then
    rank = call('ZRANK', key, id) + 1
  else
    rank = call('ZCOUNT', key, '-inf', '(' .. score)
  end
end
local found = call('ZRANGE', key, rank, rank + limit - 1, 'WITHSCORES')
answers = {'', ''}
if #found == 2 * limit then answers = {found[#found], found[#found - 1]} end
for i = 1, #found, 2 do answers[#answers + 1] = found[i] end
return answers
