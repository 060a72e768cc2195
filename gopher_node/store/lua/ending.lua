-- How jobs end, are forgotten, and call back: for the scripts that take them out of a lane, a lease or the store.

local function record_attempt(id, attempt, outcome, started, node, error)
  local key = P .. 'attempts:' .. id
  call('RPUSH', key, string.format(
    '{"attempt":%s,"outcome":"%s","started_at":%s,"finished_at":%.0f,"node":%s%s}',
    attempt, outcome, started or 'null', now, cjson.encode(node or ''), error and ',"error":' .. error or ''))
  call('LTRIM', key, -ATTEMPTS_KEPT, -1)
end

-- end_run(...): nobody holds the job any more, and nothing of its lease stays. `lease` and `unheard` are as in its hash.
local left, released = {}, {}
local function end_run(id, kind, priority, session, lease, unheard)
  count('processing', priority, kind, -1)
  left[#left + 1] = id
  if not lease then -- a job under an HTTP lease is held by no session
    released[session] = released[session] or {}
    released[session][#released[session] + 1] = id
  end
  if lease or unheard then call('HDEL', P .. 'job:' .. id, 'lease', 'deadline', 'renewed', 'open', 'unheard') end
end

-- call_back(...): stores the job that tells a callback's url of this end. A job that tells of another has no callback itself.
-- Its id is a UUID of version 7 out of the time, a number that seq gives once, and the end of the other's id: what Lua gives
-- for random numbers is the same in every script.
local CALLBACK_TYPE, CALLBACK_PRIORITY, CALLBACK_RETRIES, CALLBACK_CRASHES = 'job_callback', '2', 17, 3
local CALLBACK_RESULT = 65536 -- bytes of a result that is told
local function call_back(id, kind, state, url)
  local attempt, created, result = unpack(call('HMGET', P .. 'job:' .. id, 'attempt', 'created', 'result'))
  local omitted, error = '', nil
  if state ~= 'completed' then
    local last = call('LINDEX', P .. 'attempts:' .. id, -1)
    error = last and string.match(last, ',"error":(.*)}$') -- it is the last member; inside a text the quotes are escaped
  elseif not result then
    if call('STRLEN', P .. 'result:' .. id) > CALLBACK_RESULT then omitted = ',"result_omitted":true' end
    result = omitted == '' and call('GET', P .. 'result:' .. id)
  end
  local time, number = string.format('%012x', now), call('INCR', P .. 'seq')
  local last = string.match(string.lower(id), string.rep('%x', 12) .. '$') or '000000000000'
  local new = string.format('%s-%s-7%03x-8%03x-%s', string.sub(time, 1, 8), string.sub(time, 9), number % 4096,
                            math.floor(number / 4096) % 4096, last)
  local fields = {'type', CALLBACK_TYPE, 'state', 'enqueued', 'priority', CALLBACK_PRIORITY, 'created', now,
                  'max_retries', CALLBACK_RETRIES, 'max_crashes', CALLBACK_CRASHES}
  put_body('payload', new,
           '{"url":' .. cjson.encode(url) .. ',"job_id":' .. cjson.encode(id) .. ',"type":"' .. kind .. '","status":"' .. state ..
           '","attempt":' .. (attempt or 0) .. ',"created":' .. created .. string.format(',"finished":%.0f', now) ..
           ',"result":' .. (result or 'null') .. omitted .. ',"error":' .. (error or 'null') .. '}', fields)
  call('HSET', P .. 'job:' .. new, unpack(fields))
  enqueue(new, CALLBACK_TYPE, CALLBACK_PRIORITY, '')
  total_of('submitted:' .. CALLBACK_TYPE)
end

-- finish(...): the job's own hash and its last attempt are written; this moves it to the index of its final state, tells
-- those who wait for that, and stores the job that tells its callback, if it has one.
local finals, expiring = {}, {}
local finished = 0
local function finish(id, kind, priority, state, retention, callback, watched, options)
  local of_type = state .. ':' .. kind
  add(finals, state, now, id)
  add(finals, of_type, now, id)
  if retention and state ~= 'failed' then
    expiring[#expiring + 1] = now + retention
    expiring[#expiring + 1] = id
  end
  count(state, priority, kind, 1)
  total_of(of_type)
  finished = finished + 1
  if callback then call_back(id, kind, state, callback) end
  if watched then tell_watchers(id) end
end

-- commit_ends(): writes what end_run and finish have gathered.
local function commit_ends()
  for i = 1, #left, 1000 do call('ZREM', P .. 'processing', unpack(left, i, math.min(i + 999, #left))) end
  for session, ids in pairs(released) do
    for i = 1, #ids, 1000 do call('SREM', P .. 'held:' .. session, unpack(ids, i, math.min(i + 999, #ids))) end
  end
  for name, members in pairs(finals) do
    for i = 1, #members, 1000 do
      call('ZADD', P .. 'final:' .. name, unpack(members, i, math.min(i + 999, #members)))
    end
  end
  if expiring[1] then call('ZADD', P .. 'expiring', unpack(expiring)) end
end

-- forget(id, kind, tags, options): the job stands in no state index any more; nothing of it stays.
local function forget(id, kind, tags, options)
  call('UNLINK', P .. 'job:' .. id, P .. 'payload:' .. id, P .. 'result:' .. id, P .. 'attempts:' .. id)
  for tag in string.gmatch(tags or '', '%S+') do call('ZREM', P .. 'tag:' .. tag, id) end
end

local function forget_final(id, state, kind, priority, tags, retention, options)
  call('ZREM', P .. 'final:' .. state, id)
  call('ZREM', P .. 'final:' .. state .. ':' .. kind, id)
  if retention then call('ZREM', P .. 'expiring', id) end
  count(state, priority, kind, -1)
  forget(id, kind, tags, options)
end

-- prune(limit, keep): forget up to `limit` finished jobs that outlived their retention or the number kept of their state.
-- keep: {completed = ms, cancelled = ms, jobs = number}. Returns how many went. Failed jobs stay until an operator acts.
local function prune(limit, keep)
  local gone = 0
  local function drop(index, ids)
    for _, id in ipairs(ids) do
      local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'tags', 'retention', 'options')
      if job[1] then
        forget_final(id, job[1], job[2], job[3], job[4], job[5], job[6])
      else
        call('ZREM', index, id) -- or it would be found here for ever
      end
      gone = gone + 1
    end
  end
  drop(P .. 'expiring', call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, limit))
  for _, state in ipairs({'completed', 'cancelled'}) do
    local index = P .. 'final:' .. state
    if gone < limit then
      drop(index, call('ZRANGEBYSCORE', index, '-inf', now - keep[state], 'LIMIT', 0, limit - gone))
    end
    local over = math.min(call('ZCARD', index) - keep.jobs, limit - gone)
    if over > 0 then drop(index, call('ZRANGE', index, 0, over - 1)) end
  end
  return gone
end
