-- What a job with options holds beside its place: a name that it alone bears, and a deadline before which it has to start.
-- Names are per type. `options` is the JSON in the job's hash; whoever calls these has looked that there is some.

local function unique_name(kind, unique)
  return P .. 'unique:' .. kind .. ':' .. unique.key
end

-- The id of the job that bears a name now, or nil; and whether for a time.
local function bearer_of(name)
  local id, ends = string.match(call('GET', name) or '', '^(%S+) ?(%d*)$')
  if id and (ends == '' or tonumber(ends) > now) then return id, ends ~= '' end
end

local function bear(name, id, unique)
  if unique['until'] == 'time' then
    local period = math.max(1, unique.period_ms)
    call('SET', name, string.format('%s %.0f', id, now + period), 'PX', string.format('%.0f', period))
  else
    call('SET', name, id)
  end
end

-- Compare and delete: by now the name may be another's.
local function give_up_name(kind, id, unique)
  local name = unique_name(kind, unique)
  if string.match(call('GET', name) or '', '^%S+') == id then call('DEL', name) end
end

local function is_waiting(state)
  return state == 'scheduled' or state == 'enqueued' or state == 'blocked'
end

-- keep_deadline(...): the job waits from now on, as it is stored or again; without a deadline nothing happens.
local function keep_deadline(id)
  local expires = call('HGET', P .. 'job:' .. id, 'expires')
  if expires then call('ZADD', P .. 'deadlines', expires, id) end
end

-- starts(...): the job no longer waits, for it is claimed.
local function starts(id, kind, options)
  call('ZREM', P .. 'deadlines', id)
  local unique = cjson.decode(options).unique
  if unique and unique['until'] == 'started' then give_up_name(kind, id, unique) end
end

-- has_expired(id): whether the job may no longer start.
local function has_expired(id)
  local expires = tonumber(call('HGET', P .. 'job:' .. id, 'expires') or nil)
  return expires and expires <= now
end

-- put_aside(...): a claim has met a job that has expired, and taken it out of its lane. It is not to start, and a tick, which
-- is over it already, ends it: that takes more than a claim should have to know.
local function put_aside(id, kind, priority)
  local expires = call('HGET', P .. 'job:' .. id, 'expires')
  call('HSET', P .. 'job:' .. id, 'state', 'scheduled', 'due', expires)
  call('ZADD', P .. 'due', expires, id)
  count('enqueued', priority, kind, -1)
  count('scheduled', priority, kind, 1)
end

-- let_go(...): the job has ended, or with `vanishes` nothing of it stays.
local function let_go(id, kind, options, vanishes)
  call('ZREM', P .. 'deadlines', id)
  local unique = cjson.decode(options).unique
  if unique and (vanishes or unique['until'] ~= 'time') then give_up_name(kind, id, unique) end
end

-- replace(...): a waiting job gets a twin's payload and, if it is scheduled, its due time. Returns its state then, and due.
local function replace(id, payload, due)
  local key = P .. 'job:' .. id
  local state, kind, priority, group, watched, had = unpack(call('HMGET', key, 'state', 'type', 'priority', 'group', 'watched', 'due'))
  local fields = {}
  call('HDEL', key, 'payload')
  call('UNLINK', P .. 'payload:' .. id)
  put_body('payload', id, payload, fields)
  had = tonumber(had or nil)
  if state == 'scheduled' then
    had = due or now
    fields[#fields + 1] = 'due'
    fields[#fields + 1] = had
    if had > now then
      call('ZADD', P .. 'due', had, id)
    else
      call('ZREM', P .. 'due', id)
      count('scheduled', priority, kind, -1)
      state = 'enqueued'
      fields[#fields + 1] = 'state'
      fields[#fields + 1] = state
      enqueue(id, kind, priority, group or '')
    end
  end
  if fields[1] then call('HSET', key, unpack(fields)) end
  tell_followers(id, watched)
  return state, had
end

-- twin_of(name, id): {id, state, created, due} of the other job that bears the name, or nil. One that has expired, and that a
-- tick will end, stands for no other: that one would never run.
local function twin_of(name, id)
  local other, for_a_time = bearer_of(name)
  if not other or other == id then return nil end
  local had = call('HMGET', P .. 'job:' .. other, 'state', 'created', 'due', 'expires')
  if not had[1] or had[4] and not for_a_time and is_waiting(had[1]) and tonumber(had[4]) <= now then return nil end
  return {other, had[1], tonumber(had[2]), tonumber(had[3] or nil) or false}
end

-- meet_twin(...): a new job's twin was found: what store_job answers for it. Nobody is refused here; whoever may be has
-- been asked before. `twins` tells which job stands for which new one.
local twins = {}
local function meet_twin(id, twin, unique, payload, due)
  local other, state, created, had = unpack(twin)
  if unique.duplicates == 'replace' and is_waiting(state) then
    state, had = replace(other, payload, due)
  end
  twins[id] = other
  return {state, 0, created, had or false, other}
end

-- with_twins(given, options): a new job that waits for one of the same call that met a twin waits for that twin. Returns its
-- options as JSON; `given` is what they say.
local function with_twins(given, options)
  local parents, seen, met = {}, {}, false
  for _, parent in ipairs(given.depends_on) do
    local other = twins[parent] or parent
    met = met or other ~= parent
    if not seen[other] then parents[#parents + 1] = other end
    seen[other] = true
  end
  if not met then return options end
  given.depends_on = parents
  return (string.gsub(options, '"depends_on":%b[]', function() return '"depends_on":' .. cjson.encode(parents) end, 1))
end

-- What an ended job needs that is to run again: name_taken(...) is the id of another that bears its name, or nil.
local function name_taken(id, kind, options)
  local unique = cjson.decode(options).unique
  local twin = unique and unique['until'] ~= 'time' and twin_of(unique_name(kind, unique), id)
  return twin and twin[1]
end

local function wait_again(id, kind, options)
  keep_deadline(id)
  local unique = cjson.decode(options).unique
  if unique and unique['until'] ~= 'time' then bear(unique_name(kind, unique), id, unique) end
end

return {
  name = unique_name, twin_of = twin_of, meet_twin = meet_twin, bear = bear, is_waiting = is_waiting,
  keep_deadline = keep_deadline, starts = starts, has_expired = has_expired, put_aside = put_aside, let_go = let_go, with_twins = with_twins,
  name_taken = name_taken, wait_again = wait_again,
}
