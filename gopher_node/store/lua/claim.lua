#!lua flags=allow-oom
-- claim(session, claim, pool, limit, nonces, weights…, timeout, lease…, suspects, types…): moves up to `limit` waiting jobs
-- of the pool's types into `processing`, held by the session, or each under a lease of its own: an HTTP claim.
--   ARGV[2] session; ARGV[3] id of this claim: told again, the session's last claim is answered again. Ids
--     that are numbers rise: one below the last comes late, when its sender no longer listens, and takes nothing
--   ARGV[4] pool; ARGV[5] limit; ARGV[6] nonces, 16 characters a job
--   ARGV[7..10] weights of urgent, high, normal, low
--   ARGV[11] ms from claim to hard deadline for types not named below; ARGV[12] ms beyond a job's own timeout
--   ARGV[13..16] '' four times; for an HTTP claim: ms of the lease, who works, '1' if it will wait when it gets nothing,
--     ms for which it is remembered although nobody can repeat it but who told it
--   ARGV[17] how many crash suspects may be among them, for each needs a process of its own; '' if that is no matter
--   ARGV[18] number of types named; then for each: type, free slots or '', ms to hard deadline or ''
-- A suspect beyond that is put off for a second: it stands at the front of its lane, and must not hide what is behind it.
-- An HTTP claim needs no session: it is one. Once it has got jobs, it gets no others, but those that it still holds again;
-- while it has got none, it may be told again with a new ARGV[3]. One with a key of its caller's, `http-key-…`, may be
-- repeated from anywhere as long as its jobs run: renew_leases.lua goes on where this leaves off.
-- Answers {'ok', when work is next servable in ms or nil, job…}, {'no-session'} or {'no-pool'}; 'spent' in place of 'ok'
-- if the claim has had jobs and holds none of them any more: an HTTP claim then gets nothing, however long it waits.
-- A claim that has room left registers the session as waiting; one that leaves servable work wakes the next, and so does
-- one that leaves work of types that it has no room for: another may have.
local session, claim_id, pool, limit, nonces = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local default_deadline, grace = tonumber(ARGV[11]), tonumber(ARGV[12])
local lease, waits, memory = tonumber(ARGV[13]), ARGV[15] == '1', tonumber(ARGV[16])

local holder = call('HMGET', P .. 'session:' .. session, 'lease', 'claim', 'batch', 'node')
if lease then
  holder[4] = ARGV[14]
elseif not holder[1] then
  return {'no-session'}
end

local reply = {'ok', false}

-- What may next be served later than now, in ms; nil if only another's step lets it go.
local soonest, is_deferred
local function tell_next()
  reply[2] = soonest or false
  for _, priority in ipairs(PRIORITIES) do
    local later = call('ZRANGEBYSCORE', P .. 'ready:' .. priority .. ':' .. pool, '(' .. string.format('%.10f', turn),
                       string.format('(%.0f', PARKED), 'WITHSCORES', 'LIMIT', 0, 1)
    if later[2] then reply[2] = math.min(reply[2] or math.huge, math.ceil(tonumber(later[2]))) end
  end
end

local FIELDS = {'created', 'payload', 'attempt', 'max_retries', 'max_crashes', 'timeout', 'due', 'tags', 'errors', 'crashes',
                'watched', 'options'}
local function describe(id, kind, priority, group, job, attempt, nonce, expires, started)
  return {id, attempt, nonce, kind, priority, job[1], group, job[2] or call('GET', P .. 'payload:' .. id),
          job[9], job[10], job[4], job[5], job[6], job[7], job[8], job[12], expires, started}
end

-- What the last claim got and the session still holds.
local function tell_again(ids)
  for id in string.gmatch(ids, '%S+') do
    local key = P .. 'job:' .. id
    local held = call('HMGET', key, 'state', 'session', 'type', 'priority', 'group', 'nonce', 'started')
    if held[1] == 'processing' and held[2] == session then
      local job = call('HMGET', key, unpack(FIELDS))
      local expires = lease and tonumber(call('ZSCORE', P .. 'processing', id)) or nil
      reply[#reply + 1] = describe(id, held[3], held[4], held[5] or '', job, tonumber(job[3]), held[6], expires,
                                   lease and tonumber(held[7]))
    end
  end
  if ids == '' then
    next_turn()
    tell_next()
  elseif not reply[3] then
    reply[1] = 'spent'
  end
  return reply
end

local told = holder[3] or ''
if holder[2] == claim_id or lease and told ~= '' then return tell_again(told) end

-- A random id may consist of digits too, but is never as short as a counter.
local function number(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text)
end
local last, this = number(holder[2]), number(claim_id)
if last and this and this < last then return reply end

-- It uses the pool, if there is that: by its turn, which is in ms too, and never the same twice.
next_turn()
if call('ZADD', P .. 'pools', 'XX', 'CH', string.format('%.10f', turn), pool) == 0 then return {'no-pool'} end

local free, deadlines = {}, {}
for i = 19, 18 + 3 * tonumber(ARGV[18]), 3 do
  free[ARGV[i]] = tonumber(ARGV[i + 1])
  deadlines[ARGV[i]] = tonumber(ARGV[i + 2])
end

local batch, leases = {}, {}

local SUSPECT_REST = 1000
local suspects = tonumber(ARGV[17])
local function put_off(id, kind, priority, watched)
  call('HSET', P .. 'job:' .. id, 'state', 'scheduled', 'due', now + SUSPECT_REST)
  call('ZADD', P .. 'due', now + SUSPECT_REST, id)
  count('enqueued', priority, kind, -1)
  count('scheduled', priority, kind, 1)
  tell_followers(id, watched)
end

local function take(id, kind, priority, group)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, unpack(FIELDS))
  if job[12] and parts.unique.has_expired(id) then return parts.unique.put_aside(id, kind, priority) end
  if suspects and job[10] and tonumber(job[10]) >= SUSPECT then
    if suspects < 1 then return put_off(id, kind, priority, job[11]) end
    suspects = suspects - 1
  end
  if job[12] then parts.unique.starts(id, kind, job[12]) end
  local attempt = (job[3] or 0) + 1
  local nonce = string.sub(nonces, #batch * 16 + 1, #batch * 16 + 16)
  local allowed = job[6] and job[6] + grace or deadlines[kind] or default_deadline
  call('HSET', key, 'state', 'processing', 'attempt', attempt, 'nonce', nonce, 'session', session,
       'node', holder[4], 'started', now)
  local expires
  if lease then
    call('HSET', key, 'lease', lease, 'deadline', now + allowed)
    expires = now + math.min(lease, allowed)
  end
  batch[#batch + 1] = id
  leases[#leases + 1] = expires or now + allowed
  leases[#leases + 1] = id
  count('enqueued', priority, kind, -1)
  count('processing', priority, kind, 1)
  if group ~= '' then parts.limits.run_begins(kind, group) end
  tell_followers(id, job[11])
  reply[#reply + 1] = describe(id, kind, priority, group, job, attempt, nonce, expires, expires and now)
end

-- The longest-waiting type of a level that this node has room for.
-- They look as far as this turn: while the clock is far behind the turns, having been set back, scores tell nothing.
local passed_over, horizon = false, nil
local function next_type(priority)
  local ready = P .. 'ready:' .. priority .. ':' .. pool
  local offset = 0
  while true do
    local kind = call('ZRANGEBYSCORE', ready, '-inf', horizon or turn, 'LIMIT', offset, 1)[1]
    if not kind then return nil end
    if (free[kind] or 1) > 0 then
      local at = policy_of(kind) and parts.flow.held(parts.flow.of(kind), kind, priority)
      if not at then return kind end
      offset = offset + parts.flow.hold(ready, kind, at, horizon or turn)
    else
      passed_over = true
      offset = offset + 1
    end
  end
end

-- One turn of a type: up to `most` jobs, one for each group in turn while several groups wait. Groups that may not be served
-- now are only looked at, and put where they may: a thousand in a claim.
local looks = 1000
local function serve(priority, kind, most)
  local groups = P .. 'groups:' .. priority .. ':' .. kind
  local bounds = policy_of(kind) and parts.flow.of(kind)
  if bounds then most = math.min(most, parts.flow.room_for(bounds, kind, priority)) end
  local taken, held = 0, 0
  while taken < most and looks > 0 do
    local first = call('ZRANGEBYSCORE', groups, '-inf', horizon or turn, 'LIMIT', held, 2)
    local group = first[1]
    if not group then break end
    local place = bounds and parts.flow.group_place(bounds, kind, group)
    local later = place and parts.flow.place_until(place)
    if later then
      looks = looks - 1
      held = held + parts.flow.hold(groups, group, later, horizon or turn)
    else
      local lane = P .. 'lane:' .. priority .. ':' .. kind .. ':' .. group
      local asked = first[2] and 1 or most - taken
      if place then asked = math.min(asked, parts.flow.free_in(place)) end
      local popped = call('ZPOPMIN', lane, asked)
      local had = #batch
      for i = 1, #popped, 2 do take(popped[i], kind, priority, group) end
      taken = taken + #batch - had
      looks = looks - (#popped / 2 - (#batch - had)) -- those that have expired, or are put off
      if bounds then parts.flow.used(bounds, kind, batch, had + 1, place) end
      if #popped < 2 * asked or call('EXISTS', lane) == 0 then
        leave_turns(priority, kind, group)
      else
        later = place and parts.flow.place_until(place)
        call('ZADD', groups, later and string.format('%.0f', later) or next_turn(), group)
      end
    end
  end
  if call('EXISTS', groups) == 0 then
    for _, other in ipairs(pools_of(kind)) do call('ZREM', P .. 'ready:' .. priority .. ':' .. other, kind) end
  else
    local later = bounds and parts.flow.rest_until(bounds, kind, priority, taken)
    call('ZADD', P .. 'ready:' .. priority .. ':' .. pool, later or next_turn(), kind)
  end
  if free[kind] then free[kind] = free[kind] - taken end
  return taken
end

-- Deficit round robin, with the claim as the round: each level with work is credited its share of the slots, the level
-- with most credit is served, and one that runs dry leaves its credit to the others. What is owed stays for later claims.
horizon = turn - now > 1000 and PARKED - 1 or nil
local weights, credit, kinds, weight_sum = {}, {}, {}, 0
local owed = call('HMGET', P .. 'credit:' .. pool, '4', '3', '2', '1', 'woken')
for level, priority in ipairs(PRIORITIES) do
  kinds[level] = next_type(priority)
  weights[level] = kinds[level] and tonumber(ARGV[6 + level]) or 0
  credit[level] = kinds[level] and tonumber(owed[level] or nil) or 0
  weight_sum = weight_sum + weights[level]
end
for level = 1, 4 do
  if kinds[level] then credit[level] = credit[level] + limit * weights[level] / weight_sum end
end

local function richest()
  local best
  for level = 1, 4 do
    if kinds[level] and (not best or credit[level] > credit[best] + 1e-9) then best = level end
  end
  return best
end

while #batch < limit and looks > 0 do
  local level = richest()
  if not level then break end
  local kind = kinds[level]
  if (free[kind] or 1) > 0 then -- another level may have used the type's room up
    local most = math.max(1, math.min(16, limit - #batch, math.floor(credit[level] + 1e-9), free[kind] or 16))
    credit[level] = credit[level] - serve(PRIORITIES[level], kind, most)
  end
  kinds[level] = next_type(PRIORITIES[level])
  if not kinds[level] then
    weight_sum = weight_sum - weights[level]
    -- Only what is over: if the others had to bear its debt, a level that always has one job would starve them.
    local over = math.max(0, credit[level])
    for other = 1, 4 do
      if kinds[other] then credit[other] = credit[other] + over * weights[other] / weight_sum end
    end
    credit[level] = credit[level] - over
  end
end

-- Of an empty claim too: a late copy of it must not take what nobody then runs.
local function remember()
  local record = P .. 'session:' .. session
  call('HSET', record, 'claim', claim_id, 'batch', table.concat(batch, ' '))
  if lease then
    local keyed = string.sub(session, 1, 9) == 'http-key-'
    call('PEXPIRE', record, keyed and #batch > 0 and lease + memory or memory)
  end
end

local waiting = P .. 'waiting:' .. pool

local function start_waiting()
  call('ZADD', waiting, turn, session)
  if lease then
    -- Nothing tells that an HTTP caller has gone. One that waits asks again while it is remembered.
    for _, other in ipairs(call('ZRANGEBYSCORE', waiting, '-inf', turn - memory, 'LIMIT', 0, 100)) do
      if string.sub(other, 1, 5) == 'http-' then call('ZREM', waiting, other) end
    end
  end
  if passed_over then
    -- Only whoever has not asked since that work came, or two nodes without room for it would wake each other for ever.
    local first = call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
    if tonumber(first[2]) < (tonumber(owed[5] or nil) or 0) then wake(pool) end
  end
end

if #batch > 0 then
  for i = 1, #leases, 1000 do
    call('ZADD', P .. 'processing', unpack(leases, i, math.min(i + 999, #leases)))
  end
  if not lease then call('SADD', P .. 'held:' .. session, unpack(batch)) end
  call('HSET', P .. 'credit:' .. pool, '4', credit[1], '3', credit[2], '2', credit[3], '1', credit[4])
end
remember()

if made.flow then soonest, is_deferred = parts.flow.left_over() end
local left = kinds[1] or kinds[2] or kinds[3] or kinds[4]
-- Whoever waits and has room is told of the time when more of what was taken may be served: this session may be full then.
if #batch > 0 and (left or (passed_over or is_deferred) and #batch == limit) then wake(pool) end
local has_room = #batch < limit
local will_wait = has_room
if lease then will_wait = waits and #batch == 0 end
if will_wait then
  start_waiting()
elseif lease and holder[2] then
  call('ZREM', waiting, session)
end
if has_room then tell_next() end
if made.flow then parts.flow.commit() end
commit()
return reply
