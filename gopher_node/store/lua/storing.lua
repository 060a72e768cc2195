-- How new jobs are stored.

-- A due time as it is asked for: a time, or a delay from some time on; '' is neither.
local function due_time(due, delay, from)
  return tonumber(due) or (tonumber(delay) and from + tonumber(delay)) or nil
end

-- store_job(at, seed, source): stores the new job whose fields start at ARGV[at], unless its id is known; those of a
-- workflow's callback are in `source`. Returns {state, created?, created in ms, due in ms or false}; a repeat gets the state that the job
-- has by now. If another bears its name, that one's are told, and its id behind them: then nothing is stored.
--   ARGV[at…] = id type priority group payload due delay timeout max_retries max_crashes retention tags callback options
-- Most jobs have no options; those of others are JSON, as job.py writes them.
local PLAIN = {}
local function store_job(at, seed, source)
  local id, kind, priority, group, payload, due, delay, timeout, max_retries, max_crashes, retention, tags, callback, options =
    unpack(source or ARGV, at, at + NEW_JOB_FIELDS - 1)
  local key = P .. 'job:' .. id
  if call('EXISTS', key) == 1 then
    local had = call('HMGET', key, 'state', 'created', 'due')
    return {had[1], 0, tonumber(had[2]), tonumber(had[3] or nil) or false}
  end
  due = (due ~= '' or delay ~= '') and due_time(due, delay, now) or nil
  local given = options ~= '' and cjson.decode(options) or PLAIN
  local named = given.unique
  local twin = named and parts.unique.twin_of(parts.unique.name(kind, named), id)
  if twin then return parts.unique.meet_twin(id, twin, named, payload, due) end
  if given.depends_on and made.unique then options = parts.unique.with_twins(given, options) end
  local state = due and due > now and 'scheduled' or 'enqueued'
  local pending = given.depends_on and parts.dependents.await(id, given) or 0
  if pending > 0 then state = 'blocked' end
  local fields = {'type', kind, 'state', state, 'priority', priority, 'created', now,
                  'max_retries', max_retries, 'max_crashes', max_crashes}
  local function set(name, value)
    if value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  set('group', group)
  set('timeout', timeout)
  set('retention', retention)
  set('tags', tags)
  if callback ~= '' then set('callback', callback) end
  if options ~= '' then set('options', options) end
  if seed then set('seed', seed) end
  if pending > 0 then set('pending', pending) end
  if due then set('due', due) end
  local expires = given.expires_ms or given.ttl_ms and now + given.ttl_ms
  if expires then set('expires', expires) end
  put_body('payload', id, payload, fields)
  call('HSET', key, unpack(fields))
  if named then parts.unique.bear(parts.unique.name(kind, named), id, named) end
  if expires then call('ZADD', P .. 'deadlines', expires, id) end
  for tag in string.gmatch(tags, '%S+') do call('ZADD', P .. 'tag:' .. tag, now, id) end
  if state == 'scheduled' then
    call('ZADD', P .. 'due', due, id)
    count('scheduled', priority, kind, 1)
  elseif state == 'blocked' then
    call('ZADD', P .. 'blocked', now, id)
    count('blocked', priority, kind, 1)
  else
    enqueue(id, kind, priority, group)
  end
  if given.workflow and not source then parts.dependents.join_workflow(id, given.workflow) end
  total_of('submitted:' .. kind)
  return {state, 1, now, due or false}
end

return {due_time = due_time, store_job = store_job}
