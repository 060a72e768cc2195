-- What bounds the jobs of a type and of its groups, as a claim finds and uses it.

local limits = parts.limits

-- A place is what one limit's owner, a type or a group, may still take: `left` tokens of its rate, `room` below its cap.
local function place_of(kind, group, rate, cap, runs)
  local left, is_back
  if rate then left, is_back = limits.tokens_left(kind, group, rate) end
  return {rate = rate, left = left, used = is_back, room = cap and cap - runs}
end
local function free_in(place)
  return math.max(0, math.min(place.room or math.huge, place.left and limits.whole_tokens(place.left) or math.huge))
end
local function place_until(place)
  if place.paused or place.room and place.room < 1 then return PARKED end
  return place.left and limits.whole_tokens(place.left) < 1 and limits.next_token(place.left, place.rate) or nil
end
local function use_place(place, number)
  if place.left then place.left = place.left - number end
  if place.room then place.room = place.room - number end
  place.used = place.used or number > 0
end

-- flow_of(kind): a type's policy and places in this claim; nil for a type without a policy.
local flows = {}
local function flow_of(kind)
  if flows[kind] then return flows[kind] end
  local policy = policy_of(kind)
  if not policy then return nil end
  flows[kind] = {
    policy = policy, groups = {}, passed = {},
    place = place_of(kind, '', policy.rate, policy.cap, policy.cap and limits.number_of(kind, 'processing')),
  }
  return flows[kind]
end

-- group_place(...): of a group with limits of its own; nil for others, and for jobs without a group.
local function group_place(bounds, kind, group)
  local policy = bounds.policy
  if group == '' or not (policy.group_rate or policy.group_cap or policy.paused_groups) then return nil end
  if not bounds.groups[group] then
    local runs = policy.group_cap and tonumber(call('HGET', P .. 'running:' .. kind, group) or 0)
    bounds.groups[group] = place_of(kind, group, policy.group_rate, policy.group_cap, runs)
    bounds.groups[group].paused = limits.is_in(policy.paused_groups, group)
  end
  return bounds.groups[group]
end

-- held(bounds, kind, priority): when the type may next be served at this level, in ms or PARKED; nil is now.
local function held(bounds, kind, priority)
  if limits.is_paused(bounds.policy, priority) then return PARKED end
  local at = place_until(bounds.place)
  if not at and bounds.policy.breaker then at, bounds.one_only = parts.breaker.held_until(kind, bounds.policy) end
  return at or bounds.passed[priority] and now + 1 or nil
end

-- When the first that had to be left may be served, in ms; and whether jobs of a type that was served are among that.
local soonest, is_deferred
local function tell_soonest(at)
  if at < PARKED then soonest = math.min(soonest or at, at) end
end

-- What is not served yet for the types that a claim met: when the first may be, or nil; whether a type that was served is among it.
local function left_over() return soonest, is_deferred end

-- hold(index, member, at, horizon): it waits until `at`. Returns 1 if it stays where claims look, up to `horizon`, else 0.
local function hold(index, member, at, horizon)
  tell_soonest(at)
  if at <= horizon then return 1 end
  call('ZADD', index, string.format('%.0f', at), member)
  return 0
end

-- write_policy(kind, policy): its effective policy from now on. Lists are never empty: JSON would take them for objects.
local function write_policy(kind, policy)
  if next(policy) then
    call('HSET', P .. 'flow', kind, cjson.encode(policy))
  else
    call('HDEL', P .. 'flow', kind)
  end
  policies[kind] = next(policy) and policy or false
  is_bounded = nil
end

-- reopen_groups(...): groups that an older policy held back stand where they are looked at anew, a thousand a step. Returns
-- whether some are left. Nobody's turn comes the later by it.
local function reopen_groups(kind, priority)
  local groups = P .. 'groups:' .. priority .. ':' .. kind
  local late = call('ZRANGEBYSCORE', groups, '(' .. string.format('%.10f', next_turn()), '+inf', 'LIMIT', 0, 1000)
  for _, group in ipairs(late) do call('ZADD', groups, next_turn(), group) end
  return #late == 1000
end

local function room_for(bounds, kind, priority)
  local policy = bounds.policy
  if policy.reopen and string.find(policy.reopen, priority, 1, true) and not reopen_groups(kind, priority) then
    policy.reopen = string.gsub(policy.reopen, priority, '')
    if policy.reopen == '' then policy.reopen = nil end
    write_policy(kind, policy)
  end
  if policy.breaker then
    -- Asked anew: another level may just have got the one job that may go.
    local at
    at, bounds.one_only = parts.breaker.held_until(kind, policy)
    if at then return 0 end
  end
  return math.min(bounds.one_only and 1 or math.huge, free_in(bounds.place))
end

-- used(...): jobs of the type, from the `first` of the claim's on, were taken.
local function used(bounds, kind, batch, first, place)
  use_place(bounds.place, #batch - first + 1)
  if place then use_place(place, #batch - first + 1) end
  if bounds.one_only then
    for n = first, #batch do parts.breaker.takes(kind, batch[n]) end
  end
end

-- rest_until(...): when what is left of a type after its turn may be served; nil is now. One that gave nothing is passed over
-- for the rest of this claim.
local function rest_until(bounds, kind, priority, taken)
  local at = held(bounds, kind, priority)
  if not at then
    at = tonumber(call('ZRANGE', P .. 'groups:' .. priority .. ':' .. kind, 0, 0, 'WITHSCORES')[2])
    if at <= turn then at = nil end
  end
  if at then
    tell_soonest(at)
    if taken > 0 and at < PARKED then is_deferred = true end
  elseif taken == 0 then
    tell_soonest(now + 1)
  end
  if taken == 0 then bounds.passed[priority] = true end
  return at and at > turn and string.format('%.10f', at) or nil
end

-- commit(): writes what was used. A full bucket is as good as none, so each write looks for two to sweep away.
local function commit()
  local function write(kind, group, place)
    if not (place.used and place.rate) then return end
    local key = P .. 'rate-state:' .. kind
    call('HSET', key, group, string.format('%.0f %.17g', now, place.left))
    if group == '' then return end
    for _, other in ipairs(call('HRANDFIELD', key, 2)) do
      if other ~= '' and limits.tokens_left(kind, other, place.rate) >= place.rate.burst then call('HDEL', key, other) end
    end
  end
  for kind, bounds in pairs(flows) do
    write(kind, '', bounds.place)
    for group, place in pairs(bounds.groups) do write(kind, group, place) end
  end
end

return {
  of = flow_of, free_in = free_in, place_until = place_until, group_place = group_place, held = held, hold = hold,
  write_policy = write_policy, reopen_groups = reopen_groups, room_for = room_for, used = used,
  rest_until = rest_until, left_over = left_over, commit = commit,
}
