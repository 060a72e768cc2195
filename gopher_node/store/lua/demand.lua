#!lua flags=no-writes
-- demand(type or '', within in ms): how much there is to do for workers, of a type or of all.
-- Answers {jobs that wait, jobs that are due by then, jobs that run, 1 if the second number is exact, else 0}.
-- What is paused, a type or a priority of it, does not wait for workers. All jobs that are due by then are only counted; where
-- not all are meant, the first thousand are looked at. If there are more, so many are due at least of a type, at most in all.
local LOOKED_AT = 1000
local kind, horizon = ARGV[2], string.format('%.0f', now + ARGV[3])
local ready, running, scheduled, is_held = 0, 0, 0, false

-- The policies that hold something back.
local held = {}
local function look_at(of, policy)
  if policy and string.find(policy, '"paused', 1, true) then held[of] = cjson.decode(policy) end
end
local function is_paused(of, priority)
  return held[of] and parts.limits.is_paused(held[of], priority)
end

local function add(state, priority, of, number)
  if state == 'processing' then
    running = running + number
  elseif state == 'enqueued' and not is_paused(of, priority) then
    ready = ready + number
  elseif state == 'scheduled' and is_paused(of, priority) then
    is_held = true
  elseif state == 'scheduled' then
    scheduled = scheduled + number
  end
end

if kind == '' then
  local policies = call('HGETALL', P .. 'flow')
  for i = 1, #policies, 2 do look_at(policies[i], policies[i + 1]) end
  local flat = call('HGETALL', P .. 'counts')
  for i = 1, #flat, 2 do
    local state, priority, of = string.match(flat[i], '^([^:]+):(%d):(.*)$')
    add(state, priority, of, tonumber(flat[i + 1]))
  end
else
  look_at(kind, call('HGET', P .. 'flow', kind))
  for _, state in ipairs({'enqueued', 'scheduled', 'processing'}) do
    for _, priority in ipairs(PRIORITIES) do
      add(state, priority, kind, tonumber(call('HGET', P .. 'counts', state .. ':' .. priority .. ':' .. kind) or 0))
    end
  end
end
if scheduled == 0 then return {ready, 0, running, 1} end

local due = call('ZCOUNT', P .. 'due', '-inf', horizon)
local others = 0 -- of those that are looked at
if kind ~= '' or is_held then
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', horizon, 'LIMIT', 0, LOOKED_AT)) do
    local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority')
    if kind ~= '' and job[1] ~= kind or is_paused(job[1], job[2]) then others = others + 1 end
  end
end
if kind == '' then return {ready, due - others, running, (not is_held or due <= LOOKED_AT) and 1 or 0} end
return {ready, math.min(due, LOOKED_AT) - others, running, due <= LOOKED_AT and 1 or 0}
