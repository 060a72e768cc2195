#!lua flags=no-writes
-- queues(): answers the types that have, or had, jobs, in no order.
-- queues(type…): answers for each type, of as many as are looked at in one step and at least of the first:
--   {type; jobs as state:priority, number…; ms for which the longest-waiting job waits, by priority, nil as '';
--    totals as what, number…; the same for the last whole minute}
-- Places in lanes rise with time, so the one that waits longest is at the head of a lane, or the first there that is no
-- job put back to the front. Lanes are looked at in the order in which they will be served, a thousand for each priority.
local LANES, STEP = 1000, 4000
local STATES = {'scheduled', 'enqueued', 'blocked', 'processing', 'completed', 'failed', 'cancelled'}
local WHAT = {'submitted', 'completed', 'failed', 'retried', 'crashed', 'cancelled'}

if not ARGV[2] then
  local names, seen = {}, {}
  local function look(flat, pattern)
    for i = 1, #flat do
      local name = string.match(flat[i], pattern)
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  look(call('HKEYS', P .. 'counts'), '^[^:]+:%d:(.*)$')
  look(call('HKEYS', P .. 'totals-by-type'), '^[^:]+:([^(].*)$')
  return names
end

local looked = 0

-- Since when a job waits: since it was stored or due, or since its last run gave it back.
local function waiting_since(id)
  local job = call('HMGET', P .. 'job:' .. id, 'created', 'due', 'attempt', 'requeued')
  local since = math.max(tonumber(job[1]) or now, tonumber(job[2] or nil) or 0, tonumber(job[4] or nil) or 0)
  if job[3] then
    local run = call('LINDEX', P .. 'attempts:' .. id, -1)
    since = math.max(since, tonumber(run and string.match(run, '"finished_at":(%d+)') or nil) or 0)
  end
  return since
end

local function oldest(priority, kind)
  local first, place
  local function consider(id, at)
    if id and (not place or at < place) then first, place = id, at end
  end
  for _, group in ipairs(call('ZRANGE', P .. 'groups:' .. priority .. ':' .. kind, 0, LANES - 1)) do
    local lane = P .. 'lane:' .. priority .. ':' .. kind .. ':' .. group
    local head = call('ZRANGE', lane, 0, 0, 'WITHSCORES')
    looked = looked + 1
    if head[2] and tonumber(head[2]) < 0 then
      consider(head[1], head[2] - FRONT)
      head = call('ZRANGEBYSCORE', lane, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    end
    consider(head[1], tonumber(head[2] or nil))
  end
  return first and math.max(0, now - waiting_since(first)) or ''
end

local function values(key, fields, names)
  local answer = {}
  for n, value in ipairs(call('HMGET', key, unpack(fields))) do
    -- A mark holds a total and, behind it, what the last minute added.
    local number = value and tonumber(string.match(value, '%d+$'))
    if number and number > 0 then
      answer[#answer + 1] = names[n]
      answer[#answer + 1] = string.format('%.0f', number)
    end
  end
  return answer
end

local marked = tonumber(call('HGET', P .. 'minute', '') or nil)
local is_fresh = marked and math.abs(math.floor(now / 60000) * 60000 - marked) <= 120000
local answers = {}
for n = 2, #ARGV do
  if looked >= STEP then break end
  local kind = ARGV[n]
  local names, fields, typed = {}, {}, {}
  for _, state in ipairs(STATES) do
    for _, priority in ipairs(PRIORITIES) do
      names[#names + 1] = state .. ':' .. priority
      fields[#fields + 1] = state .. ':' .. priority .. ':' .. kind
    end
  end
  for i, what in ipairs(WHAT) do typed[i] = what .. ':' .. kind end
  local ages = {}
  for i, priority in ipairs(PRIORITIES) do ages[i] = oldest(priority, kind) end
  answers[n - 1] = {kind, values(P .. 'counts', fields, names), ages, values(P .. 'totals-by-type', typed, WHAT),
                    is_fresh and values(P .. 'minute', typed, WHAT) or {}}
end
return answers
