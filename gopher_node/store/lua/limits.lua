-- What only types with a policy need, and groups: when the type may next be served, and what becomes of that.

local function is_in(list, wanted)
  for _, one in ipairs(list or {}) do
    if one == wanted then return true end
  end
  return false
end

-- How many jobs of the type are in this state, with what the script has done so far.
local function number_of(kind, state)
  local sum, fields = 0, {}
  for n, priority in ipairs(PRIORITIES) do
    fields[n] = state .. ':' .. priority .. ':' .. kind
    sum = sum + (counts[fields[n]] or 0)
  end
  for _, number in ipairs(call('HMGET', P .. 'counts', unpack(fields))) do sum = sum + (tonumber(number or nil) or 0) end
  return sum
end

-- Rates are token buckets, which is the same as GCRA: one holds `burst` tokens at most, a job takes one, and each comes back
-- after per_ms / limit. Returns the tokens, and true if the clock was set back since they were counted: they are to be
-- written anew then, or they would not come back until it is as late again.
local function tokens_left(kind, group, rate)
  local at, left = string.match(call('HGET', P .. 'rate-state:' .. kind, group) or '', '^(%S+) (%S+)$')
  if not at then return rate.burst end
  local elapsed = now - at
  local is_back = elapsed < -1000
  if is_back then elapsed = 0 end
  return math.min(rate.burst, left + elapsed * rate.limit / rate.per_ms), is_back
end
local function whole_tokens(left) return math.max(0, math.floor(left + 1e-9)) end
local function next_token(left, rate) return now + math.max(1, math.ceil((1 - left) * rate.per_ms / rate.limit - 1e-6)) end

-- When the type itself may next be served, in ms or PARKED; nil is now. Pauses of single levels are apart.
local function type_until(kind, policy)
  if policy.paused or policy.cap and number_of(kind, 'processing') >= policy.cap then return PARKED end
  if not policy.rate then return nil end
  local left = tokens_left(kind, '', policy.rate)
  return whole_tokens(left) < 1 and next_token(left, policy.rate) or nil
end
local function is_paused(policy, priority)
  return policy.paused or is_in(policy.paused_priorities, priority)
end

-- stand_ready(kind, at): whatever held the type back holds it no more, or until `at`, in ms or PARKED. Whoever waits for
-- work asks again: to get some, or to be told the time.
local function stand_ready(kind, at)
  local score = string.format('%.10f', at or next_turn())
  for _, pool in ipairs(pools_of(kind)) do
    local found = 0
    for _, priority in ipairs(PRIORITIES) do
      local ready = P .. 'ready:' .. priority .. ':' .. pool
      if call('ZSCORE', ready, kind) then
        call('ZADD', ready, score, kind)
        found = found + 1
      end
    end
    if found > 0 and at ~= PARKED then wake(pool) end
  end
end

-- Runs that begin and end change how many of their group run. Gathered; commit() has it written by write_running(), and the
-- places that became free offered by offer_places().
local running, freed = {}, {}
local function run_begins(kind, group)
  running[kind] = running[kind] or {}
  running[kind][group] = (running[kind][group] or 0) + 1
end
local function run_is_over(kind, group)
  if group ~= '' then
    running[kind] = running[kind] or {}
    running[kind][group] = (running[kind][group] or 0) - 1
  end
  if not policy_of(kind) then return end
  freed[kind] = freed[kind] or {}
  freed[kind][group] = true
end

local function write_running()
  for kind, groups in pairs(running) do
    for group, by in pairs(groups) do
      -- Less than none are left of a group whose jobs a node began that does not count them yet.
      if by ~= 0 and call('HINCRBY', P .. 'running:' .. kind, group, by) <= 0 then
        call('HDEL', P .. 'running:' .. kind, group)
      end
    end
  end
end

-- A place is free: what was parked for want of it stands where it is looked at again.
local function offer_place(kind, policy, freed_groups)
  local late, woken = type_until(kind, policy), {}
  for _, priority in ipairs(PRIORITIES) do
    local key = P .. 'groups:' .. priority .. ':' .. kind
    for group in pairs(policy.group_cap and freed_groups or {}) do
      local parked = tonumber(call('ZSCORE', key, group) or nil) == PARKED
      if parked and not is_in(policy.paused_groups, group) then call('ZADD', key, next_turn(), group) end
    end
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    local at = first[2] and math.max(tonumber(first[2]), late or 0)
    if at and at < PARKED and not is_paused(policy, priority) then
      for _, pool in ipairs(pools_of(kind)) do
        local ready = P .. 'ready:' .. priority .. ':' .. pool
        if tonumber(call('ZSCORE', ready, kind) or 0) > math.max(at, next_turn()) then
          call('ZADD', ready, string.format('%.10f', at), kind)
          woken[pool] = true
        end
      end
    end
  end
  for pool in pairs(woken) do wake(pool, turn) end
end

local function offer_places()
  for kind, groups in pairs(freed) do
    local policy = policy_of(kind)
    if policy.cap or policy.group_cap then offer_place(kind, policy, groups) end
  end
end

-- A type with a policy has got jobs at a level, `is_new` if of a group that had none there. Returns whether somebody should
-- ask for it in this pool: what waits for its time or its place anyhow wakes nobody.
local function arrive(priority, kind, pool, policy, late, is_new)
  local ready = P .. 'ready:' .. priority .. ':' .. pool
  local at = late or turn
  if is_new and call('ZADD', ready, 'NX', at, kind) == 1 then return at ~= PARKED end
  -- It may be later only because its other groups wait.
  if is_new and (policy.group_rate or policy.group_cap or policy.paused_groups) then call('ZADD', ready, 'LT', at, kind) end
  return tonumber(call('ZSCORE', ready, kind) or 0) <= next_turn()
end

return {
  is_in = is_in, number_of = number_of, tokens_left = tokens_left, whole_tokens = whole_tokens,
  next_token = next_token, type_until = type_until, is_paused = is_paused, stand_ready = stand_ready,
  run_begins = run_begins, run_is_over = run_is_over, write_running = write_running, offer_places = offer_places, arrive = arrive,
}
