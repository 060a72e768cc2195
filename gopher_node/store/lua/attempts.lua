-- What is told of a job's runs: of each in its list of attempts, and of how they ended to its callback.

local ATTEMPTS_KEPT = 20
local function record(id, attempt, outcome, started, node, error)
  local key = P .. 'attempts:' .. id
  call('RPUSH', key, string.format(
    '{"attempt":%s,"outcome":"%s","started_at":%s,"finished_at":%.0f,"node":%s%s}',
    attempt, outcome, started or 'null', now, cjson.encode(node or ''), error and ',"error":' .. error or ''))
  call('LTRIM', key, -ATTEMPTS_KEPT, -1)
end

-- call_back(...): stores the job that tells a callback's url of this end. A job that tells of another has no callback itself.
-- It bears the trace that the other was sent in.
-- Its id is a UUID of version 7 out of the time, a number that seq gives once, and the end of the other's id: what Lua gives
-- for random numbers is the same in every script.
local CALLBACK_TYPE, CALLBACK_PRIORITY, CALLBACK_RETRIES, CALLBACK_CRASHES = 'job_callback', '2', 17, 3
local CALLBACK_RESULT = 65536 -- bytes of a result that is told
local function call_back(id, kind, state, url, options)
  local attempt, created, result, ended_by = unpack(call('HMGET', P .. 'job:' .. id, 'attempt', 'created', 'result', 'error'))
  local omitted, error = '', nil
  if state ~= 'completed' then
    local last = not ended_by and call('LINDEX', P .. 'attempts:' .. id, -1)
    error = ended_by or last and string.match(last, ',"error":(.*)}$') -- it is the last member; inside a text the quotes are escaped
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
  local trace = options and string.find(options, '"trace":', 1, true) and cjson.decode(options).trace
  if type(trace) == 'string' then
    fields[#fields + 1] = 'options'
    fields[#fields + 1] = cjson.encode({trace = trace})
  end
  call('HSET', P .. 'job:' .. new, unpack(fields))
  enqueue(new, CALLBACK_TYPE, CALLBACK_PRIORITY, '')
  total_of('submitted:' .. CALLBACK_TYPE)
end

return {record = record, call_back = call_back}
