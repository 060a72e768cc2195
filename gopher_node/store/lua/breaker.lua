-- The circuit breaker of a type that has one in its policy (flow.lua), which all nodes share.
--
-- closed: jobs run, and how their runs end is counted. When at least `minimum` ended within `window_ms`, and `ratio` of them
-- or more in an error or a crash, it opens. open: no job of the type is served for `cooldown_ms`. Then it is half-open:
-- the next claim gets one job, the probe, and nobody another. Its success closes the breaker, its error or crash opens it
-- again; if it is handed back, the next claim gets one. forced-open, forced-closed: an operator decides until he resets it.
--
-- The window is counted in ten parts, so it spans between nine and ten of them. A run says nothing that was begun before
-- the breaker came to be as it is, and so nothing that is settled late can open or close it.

local WINDOW_PARTS = 10
local TRANSITIONS_KEPT = 100

-- A breaker's hash as a table of texts; one that never moved is closed since 0.
local breakers = {}
local function breaker_of(kind)
  if not breakers[kind] then
    local found = {state = 'closed', since = '0'}
    local fields = call('HGETALL', P .. 'breaker:' .. kind)
    for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
    breakers[kind] = found
  end
  return breakers[kind]
end

-- breaker_window(...): how many runs ended well within the window, and how many did not.
local function breaker_window(breaker, policy)
  local ok, failed = 0, 0
  for part = 0, WINDOW_PARTS - 1 do
    local began, well, badly = string.match(breaker[tostring(part)] or '', '^(%d+) (%d+) (%d+)$')
    if began and tonumber(began) <= now and tonumber(began) > now - policy.breaker.window_ms then
      ok, failed = ok + well, failed + badly
    end
  end
  return ok, failed
end

-- breaker_moves(...): the breaker's hash is written anew, for what was counted before says nothing of what is now.
local function breaker_moves(kind, state, why, fields, ok, failed, id)
  local breaker = breakers[kind]
  local log = P .. 'breaker-log:' .. kind
  local moved = {state = state, since = string.format('%.0f', now), operation = breaker.operation}
  for name, value in pairs(fields or {}) do moved[name] = value end
  call('RPUSH', log, string.format('{"at":%s,"from":"%s","to":"%s","why":"%s","ok":%d,"failed":%d,"job_id":%s}', moved.since,
                                   breaker.state, state, why, ok or 0, failed or 0, id and cjson.encode(id) or 'null'))
  call('LTRIM', log, -TRANSITIONS_KEPT, -1)
  local words = {}
  for name, value in pairs(moved) do
    words[#words + 1] = name
    words[#words + 1] = value
  end
  call('DEL', P .. 'breaker:' .. kind)
  call('HSET', P .. 'breaker:' .. kind, unpack(words))
  breakers[kind] = moved
end

-- Whether the clock was set back to before the breaker came to be as it is: then nobody can tell how long that is ago.
local function is_ahead(breaker)
  return tonumber(breaker.since) > now + 1000
end

-- breaker_until(kind, policy): when the type may next be served: nil for now, else ms. And true if only one job may go.
local function breaker_until(kind, policy)
  if not (policy and policy.breaker) then return nil, false end
  local breaker = breaker_of(kind)
  if breaker.state == 'forced-open' or breaker.state == 'half-open' and breaker.probe then return PARKED, false end
  if breaker.state == 'open' and now < tonumber(breaker['until']) and not is_ahead(breaker) then return tonumber(breaker['until']), false end
  return nil, breaker.state == 'open' or breaker.state == 'half-open'
end

-- breaker_takes(kind, id): the claim took the one job that may go.
local function breaker_takes(kind, id)
  local breaker = breaker_of(kind)
  if breaker.state == 'open' then
    breaker_moves(kind, 'half-open', 'cooldown', {probe = id}, nil, nil, id)
  elseif breaker.state == 'half-open' then
    breaker.probe = id
    call('HSET', P .. 'breaker:' .. kind, 'probe', id)
  end
end

-- start_count(...): what was counted in the part of the window that is now, and in all of it; a script adds to these.
local function start_count(breaker, policy)
  local size = math.max(1, math.ceil(policy.breaker.window_ms / WINDOW_PARTS))
  local number = math.floor(now / size)
  local part, began = tostring(number % WINDOW_PARTS), string.format('%.0f', number * size)
  local had, well, badly = string.match(breaker[part] or '', '^(%d+) (%d+) (%d+)$')
  if had ~= began then well, badly = 0, 0 end
  local all_well, all_badly = breaker_window(breaker, policy)
  return {part = part, began = began, well = tonumber(well), badly = tonumber(badly),
          all_well = all_well, all_badly = all_badly}
end

-- breaker_heard(kind, policy, id, started, ok): a run is over: well, badly, or, if `ok` is nil, without a verdict.
local breakers_counted = {}
local function breaker_heard(kind, policy, id, started, ok)
  if not (policy and policy.breaker) then return end
  local breaker, cooldown = breaker_of(kind), now + policy.breaker.cooldown_ms
  if breaker.state == 'half-open' then
    if breaker.probe ~= id then return end
    if ok then
      breaker_moves(kind, 'closed', 'probe-succeeded', nil, 1, 0, id)
    elseif ok == false then
      breaker_moves(kind, 'open', 'probe-failed', {['until'] = string.format('%.0f', cooldown)}, 0, 1, id)
    else
      breaker.probe = nil
      call('HDEL', P .. 'breaker:' .. kind, 'probe')
    end
    -- Whoever waits asks again: to serve it, or to be told the time.
    parts.limits.stand_ready(kind, ok == false and cooldown or nil)
    return
  end
  local counts_now = breaker.state == 'closed' or breaker.state == 'forced-closed'
  if ok == nil or not counts_now then return end
  if is_ahead(breaker) then
    if tonumber(started) > now then return end -- by the clock as it was
  elseif tonumber(started) < tonumber(breaker.since) then
    return
  end
  local count = breakers_counted[kind] or start_count(breaker, policy)
  breakers_counted[kind] = count
  local what, of_all = ok and 'well' or 'badly', ok and 'all_well' or 'all_badly'
  count[what], count[of_all] = count[what] + 1, count[of_all] + 1
  local all = count.all_well + count.all_badly
  if breaker.state == 'closed' and all >= policy.breaker.minimum and count.all_badly + 1e-9 >= policy.breaker.ratio * all then
    breaker_moves(kind, 'open', 'failures', {['until'] = string.format('%.0f', cooldown)}, count.all_well, count.all_badly)
    breakers_counted[kind] = nil
    parts.limits.stand_ready(kind, cooldown)
  end
end

-- commit_breakers(): writes what breaker_heard has counted.
local function commit_breakers()
  for kind, count in pairs(breakers_counted) do
    call('HSET', P .. 'breaker:' .. kind, count.part, string.format('%s %d %d', count.began, count.well, count.badly))
  end
end

-- breaker_goes(kind): its policy has none any more; nothing of it stays.
local function breaker_goes(kind)
  call('DEL', P .. 'breaker:' .. kind, P .. 'breaker-log:' .. kind)
  breakers[kind] = nil
end

return {
  of = breaker_of, window = breaker_window, moves = breaker_moves, held_until = breaker_until, takes = breaker_takes,
  heard = breaker_heard, commit = commit_breakers, goes = breaker_goes,
}
