-- How new jobs are stored.

-- A due time as it is asked for: a time, or a delay from some time on; '' is neither.
local function due_time(due, delay, from)
  return tonumber(due) or (tonumber(delay) and from + tonumber(delay)) or nil
end

-- store_job(at, seed): stores the new job whose fields start at ARGV[at], unless its id is known. Returns
-- {state, created?, created in ms, due in ms or false}; a repeat gets the state that the job has by now.
--   ARGV[at…] = id type priority group payload due delay timeout max_retries max_crashes retention tags callback options
-- Most jobs have no options; those of others are JSON, as job.py writes them.
local NEW_JOB_FIELDS = 14
local function store_job(at, seed)
  local id, kind, priority, group, payload, due, delay, timeout, max_retries, max_crashes, retention, tags, callback, options =
    unpack(ARGV, at, at + NEW_JOB_FIELDS - 1)
  local key = P .. 'job:' .. id
  if call('EXISTS', key) == 1 then
    local had = call('HMGET', key, 'state', 'created', 'due')
    return {had[1], 0, tonumber(had[2]), tonumber(had[3] or nil) or false}
  end
  due = (due ~= '' or delay ~= '') and due_time(due, delay, now) or nil
  local state = due and due > now and 'scheduled' or 'enqueued'
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
  if due then set('due', due) end
  put_body('payload', id, payload, fields)
  call('HSET', key, unpack(fields))
  for tag in string.gmatch(tags, '%S+') do call('ZADD', P .. 'tag:' .. tag, now, id) end
  if state == 'scheduled' then
    call('ZADD', P .. 'due', due, id)
    count('scheduled', priority, kind, 1)
  else
    enqueue(id, kind, priority, group)
  end
  total_of('submitted:' .. kind)
  return {state, 1, now, due or false}
end
