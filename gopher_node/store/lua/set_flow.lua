#!lua flags=allow-oom
-- set_flow('declare', (type, policy)…): what handlers and settings say of these types from now on, as JSON, or '' for nothing.
-- set_flow('set', type, (verb, field, value)…): an operator's words, which go before what is declared, field by field:
--   put: the field is value, JSON; drop: the operator says nothing of it any more; add, remove: value is one of its list, text
-- What was held back by the policy as it was is looked at anew, and those who wait ask again. What changes nothing does not.
-- Answers the type's policy as it is now, as JSON, for each type; or nil if a list would grow beyond a thousand.
local flow, breaker, limits = parts.flow, parts.breaker, parts.limits
local MOST = 1000

-- JSON that is the same for the same content, so that it can be compared.
local function canonical(value)
  if type(value) ~= 'table' then return cjson.encode(value) end
  local parts = {}
  if value[1] ~= nil then
    for n, one in ipairs(value) do parts[n] = canonical(one) end
    return '[' .. table.concat(parts, ',') .. ']'
  end
  for name, one in pairs(value) do parts[#parts + 1] = cjson.encode(name) .. ':' .. canonical(one) end
  table.sort(parts)
  return '{' .. table.concat(parts, ',') .. '}'
end

local function read(key, kind)
  local text = call('HGET', P .. key, kind)
  return text and cjson.decode(text) or {}
end
local function write(key, kind, content)
  if next(content) then call('HSET', P .. key, kind, canonical(content)) else call('HDEL', P .. key, kind) end
end

-- What a limit that is no more has used.
local function sweep(kind, policy)
  local key = P .. 'rate-state:' .. kind
  local own = policy.rate and call('HGET', key, '')
  if not policy.group_rate then
    call('UNLINK', key)
    if own then call('HSET', key, '', own) end
  elseif not own then
    call('HDEL', key, '')
  end
end

-- Returns the policy that now holds, as JSON.
local function take_effect(kind)
  local policy, old = read('flow-declared', kind), read('flow', kind)
  for name, value in pairs(read('flow-set', kind)) do policy[name] = value end
  local told = canonical(policy)
  old.reopen = nil
  if told == canonical(old) then return told end
  local reopen = ''
  for _, priority in ipairs(PRIORITIES) do
    if flow.reopen_groups(kind, priority) then reopen = reopen .. priority end
  end
  if reopen ~= '' then policy.reopen = reopen end
  sweep(kind, policy)
  flow.write_policy(kind, policy)
  if old.breaker and not policy.breaker then breaker.goes(kind) end
  limits.stand_ready(kind, policy.paused and PARKED or nil)
  return told
end

local function change(content, verb, field, value)
  if verb == 'put' then
    content[field] = cjson.decode(value)
  elseif verb == 'drop' then
    content[field] = nil
  else
    local list = {}
    for _, one in ipairs(content[field] or {}) do
      if one ~= value then list[#list + 1] = one end
    end
    if verb == 'add' then list[#list + 1] = value end
    table.sort(list)
    content[field] = list[1] and list or nil
    return #list <= MOST
  end
  return true
end

local answers = {}
if ARGV[2] == 'declare' then
  for at = 3, #ARGV, 2 do
    write('flow-declared', ARGV[at], ARGV[at + 1] ~= '' and cjson.decode(ARGV[at + 1]) or {})
    answers[#answers + 1] = take_effect(ARGV[at])
  end
else
  local kind = ARGV[3]
  local content = read('flow-set', kind)
  for at = 4, #ARGV, 3 do
    if not change(content, ARGV[at], ARGV[at + 1], ARGV[at + 2]) then return false end
  end
  write('flow-set', kind, content)
  answers[1] = take_effect(kind)
end
commit()
return answers
