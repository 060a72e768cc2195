-- The keys of the store, and the steps that the transitions share. It stands in front of every script.
--
-- KEYS[1] is the namespace's prefix, such as {gopher}: whose hash tag keeps all keys in one slot.
-- ARGV[1] is the time in epoch milliseconds, or '' for the server's own clock; only tests pass a time.
--
-- A job and what belongs to it:
--   job:<id>                     HASH    type state priority group payload created due timeout max_retries max_crashes
--                                        retention tags callback options attempt errors crashes nonce session node started finished
--                                        result progress cancel watched settled operation seed expires error log; what is
--                                        absent is empty or 0
--                                        operation: "<id of the last call that changed it>:<…>", so that a repeat of
--                                        that call, told because its answer was lost, is known and answered alike
--                                        seed: of the call that stored it, if the client chose its id
--                                        watched: 1 if somebody waits for its end, 2 if for every change
--                                        requeued: when an operator last gave it back
--                                        expires: ms from which on it may not start any more
--                                        error: JSON of why it ended without a run
--                                        pending: how many jobs a blocked one waits for; of others the last of it
--                                        outlived: prune has found it over, and moved its scores beyond the others',
--                                        for a dependent still needs it
--                                        log: "<bytes> <lines that went> <id of the last lines>" of its log
--                                        counted: the attempt whose error is counted already
--                                        unheard: how often in a row an HTTP lease ended without a sign of its worker
--                                        Only while it runs under an HTTP lease: lease (its length in ms) deadline
--                                        (where no heartbeat gets it beyond) renewed (by the last heartbeat) open (may
--                                        be settled without a token)
--   payload:<id> result:<id>     STRING  bodies above 1 KiB, so that the hash stays a listpack
--   log:<id>                     LIST    what its runs said, a JSON object for each line, at most 1,000 and 64 KiB
--   attempts:<id>                LIST    one JSON object for each attempt that ended in anything but completion, the last 20
-- The state indexes. Each id stands in exactly one, which matches its state:
--   lane:<priority>:<type>:<group>  ZSET  enqueued: id by place, so oldest first
--   due                          ZSET    scheduled: id by due time
--   blocked                      ZSET    blocked: id by creation
--   processing                   ZSET    processing: id by the hard deadline of its lease; by the end of an HTTP lease
--   final:<state>                ZSET    completed, failed, cancelled: id by finish time
-- Indexes for listing and for pruning:
--   final:<state>:<type>         ZSET    id by finish time
--   tag:<tag>                    ZSET    id by creation
--   expiring                     ZSET    completed and cancelled jobs with a retention of their own, by its end
-- Of jobs with options:
--   unique:<type>:<key>          STRING  id of the job that bears this name; "<id> <ms>", until then, if that is for a time
--   deadlines                    ZSET    scheduled, enqueued and blocked jobs that may expire, by when they do
--   dependents:<id>              ZSET    unfinished jobs that depend on this one, by -1 where the edge is resolved, or else by
--                                        what `fanned` was when they came
--   fanout fanned                LIST    "<number> completed|failed <id>" of ended jobs with dependents that are still to be
--                                        released: those that came before `fanned`, a STRING, was this number
--   workflow:<id>                HASH    name created total completed failed cancelled gone (members that are forgotten)
--                                        finished cancelling (ms) cancelled_to ("<score> <id>" of the last member that was
--                                        seen to) joined (how many came after that) on_complete on_success on_failure (ids of the callbacks that were stored)
--   workflows                    ZSET    workflow by creation
--   members:<workflow>           ZSET    id by number, from 1;  unfinished:<workflow>  those that have not ended
--   callback:<workflow>:<which>  LIST    fields of a callback that was not stored yet, as store_job takes them
--   cancelling                   ZSET    workflows whose members are still to be cancelled, by when that was asked for
-- What is served next:
--   groups:<priority>:<type>     ZSET    groups whose lane has jobs, by turn
--   lanes:<priority>:<type>      ZSET    the same groups by name, for lists; the lane without a group is not among them
--   ready:<priority>:<pool>      ZSET    types of the pool that have jobs, by when they may next be served
--   credit:<pool>                HASH    priority -> share of claims it is still owed; woken -> turn of the last arrival
--                                        for which a session was woken
--   pools                        ZSET    pool by last use;  pool:<pool> SET of types;  pools-of:<type> SET of pools
--   waiting:<pool>               ZSET    sessions that found too little, by the turn in which they last asked
--   wake:<pool>                  LIST    one token for each session that should ask again
-- What bounds the jobs of a type; nothing of it is there while nothing is configured:
--   flow                         HASH    type -> JSON of its policy: what is declared, overlaid field by field by what an
--                                        operator set. {rate, group_rate: {limit, per_ms, burst}, cap, group_cap,
--                                        max_backlog, breaker, paused, paused_priorities, paused_groups, draining};
--                                        reopen: priorities whose groups are to be looked at anew
--   flow-declared flow-set       HASH    type -> JSON: what handlers and settings declare; what an operator set
--   rate-state:<type>            HASH    group, or '' for the type itself -> "<ms> <tokens left then>"; absent is full
--   running:<type>               HASH    group -> jobs of it that are processing; of the type itself they are in `counts`
--   breaker:<type>               HASH    how its breaker stands: state since until probe operation, and what was counted in the
--                                        parts of its window: 0 to 9 -> "<ms> <ended well> <ended badly>"; see breaker.lua
--   breaker-log:<type>           LIST    a JSON object for each of its last 100 moves
-- What may not be served now has a later score than now: in `groups` a group that its own limits hold back, in `ready` a
-- type that waits for a token, or all of whose groups wait. What no time lets go, a pause or a cap, is PARKED there: whoever
-- frees a place or changes the policy puts it back. Claims find out what may be served; scores only tell where to look.
-- Holders:
--   sessions                     HASH    session -> "<renewals>:<lease in ms>:<node>"
--   session:<session>            HASH    node lease claim batch; an HTTP claim is a session too, `http-…`, or `http-key-…`
--                                        if its caller may repeat it, but stands not in `sessions`, and its hash is only
--                                        there to repeat an answer, so it expires
--   held:<session>               SET     ids of the jobs it holds; none for an HTTP claim
-- Recurring jobs: recurring:<name> recurring-due recurring-names, which recurring.lua tells of
-- The rest:
--   seq turn layout              STRING  last place given; last turn given; version of this layout
--   once:<hash of key>           STRING  "<created> <seed> <fingerprint>" of the call that first used an idempotency key
--   reply:<operation>            STRING  what a call answered that leaves no trace in jobs; for a minute, told again
--   counts                       HASH    <state>:<priority>:<type> -> jobs
--   totals-by-type               HASH    <what>:<type> -> how often it happened to jobs of the type, since the namespace
--                                        began; '' -> number of types counted: those beyond a thousand are (other)
--   totals                       HASH    whatever else happened -> how often
--   minute                       HASH    what, <what>:<type> -> "<total> <of it in the minute>" at the last tick; '' -> that
--                                        minute in ms
--   history                      ZSET    a JSON object for each minute, by its ms; two days
--   latency:<ms of a minute>     HASH    node -> "<how many> <JSON>": how long the jobs of that minute took there; it expires
--   latency-history              ZSET    "<ms> <JSON>": what these came to, for each minute, by its ms; two days
--   nodes                        HASH    node -> "<ms of its last report> <JSON>"
--   keys keys-used               HASH    key's id -> JSON; key's id -> ms of its last use
--   keys-revoked                 ZSET    ids of keys that were revoked within a day, by ms
--   rate:<key's id>              STRING  "<ms> <fill> <limit> <window>" of its leaky bucket, until that is empty
--   keys                         pub/sub channel: a key's id whenever it has changed
--   ended changed                pub/sub channels: ids of watched jobs that ended or went; of followed ones that changed
--   session:<session>            pub/sub channel: ids of jobs that the session should cancel
--
-- A script checks first and writes after, and never fails once it has written: Redis does not roll back. So what is
-- published is gathered, and sent by commit() when all is written: a user may lack the right to.
--
-- What not every run needs is a part: a file that ends with what it gives, which others take from `parts.<part>`. It is made
-- in a run that comes to ask for it, and `made.<part>` tells whether that was so. Here stands what most runs need, and it is
-- kept small, for all of them make it: a function costs about half of a call to the server.

local P = KEYS[1]
local call = redis.call
local PRIORITIES = {'4', '3', '2', '1'}
local INLINE = 1024           -- bytes of a body that may stand in the job's hash
local NODE_SILENT = 60000     -- ms after which a node that reports nothing is taken for gone
local FRONT = -4e15           -- places from here on come before all that seq gives
local TYPES_COUNTED = 1000    -- types that have totals of their own
local TURN = 1 / 1024         -- the smallest step between two turns of one millisecond
local PARKED = 9e15           -- the score of what waits for no time
local SUSPECT = 2             -- a job that was present at so many crashes runs alone
local NEW_JOB_FIELDS = 14     -- of a new job, as storing.lua takes them

local now = tonumber(ARGV[1])
if not now then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local turn -- drawn lazily: most scripts take none
local function next_turn()
  if not turn then
    turn = math.max(now, tonumber(call('GET', P .. 'turn') or 0))
  end
  turn = turn + TURN
  return turn
end

-- Counters are gathered and written once, by commit().
local counts, totals = {}, {}
local function count(state, priority, kind, by)
  local field = state .. ':' .. priority .. ':' .. kind
  counts[field] = (counts[field] or 0) + by
end
local function total(what, by)
  totals[what] = (totals[what] or 0) + (by or 1)
end

-- What happens to jobs is counted for their types alone; `field` is '<what>:<type>'. Whoever wants it for all adds up.
local typed_totals = {}
local function total_of(field)
  typed_totals[field] = (typed_totals[field] or 0) + 1
end
local function write_typed_totals()
  local key = P .. 'totals-by-type'
  for field, by in pairs(typed_totals) do
    if call('HINCRBY', key, field, by) == by then -- the field is new, and so its type may be
      local what, kind = string.match(field, '^(.-):(.*)$')
      local known = 0
      for _, other in ipairs({'submitted', 'completed', 'failed', 'retried', 'crashed', 'cancelled'}) do
        known = known + call('HEXISTS', key, other .. ':' .. kind)
      end
      if known == 1 and tonumber(call('HGET', key, '') or 0) >= TYPES_COUNTED then
        call('HDEL', key, field)
        call('HINCRBY', key, what .. ':(other)', by)
      elseif known == 1 then
        call('HINCRBY', key, '', 1)
      end
    end
  end
end

local publications = {}
local function publish(channel, message)
  publications[#publications + 1] = {P .. channel, message}
end

-- Jobs that enter lanes are gathered and written once, lane by lane in the order in which they came, by commit().
local lanes, place = {}, nil -- lane -> {its name, priority, type, group, place, id…}; the same in their order
local function enqueue(id, kind, priority, group, to_front)
  place = place and place + 1 or call('INCR', P .. 'seq')
  local lane = priority .. ':' .. kind .. ':' .. group
  local entering = lanes[lane]
  if not entering then
    entering = {lane, priority, kind, group}
    lanes[lane] = entering
    lanes[#lanes + 1] = entering
  end
  entering[#entering + 1] = string.format('%.0f', to_front and FRONT + place or place)
  entering[#entering + 1] = id
  count('enqueued', priority, kind, 1)
end

local function pools_of(kind)
  return call('SMEMBERS', P .. 'pools-of:' .. kind)
end

-- wake(pool, arrival): one session that waits should ask again; `arrival` is the turn of the work that has come for it.
local function wake(pool, arrival)
  if call('ZPOPMIN', P .. 'waiting:' .. pool)[1] then
    local list = P .. 'wake:' .. pool
    -- A token that nobody took in time would only cause an idle claim. HTTP workers that poll and do not wait leave many.
    if call('RPUSH', list, '1') > 1000 then call('LPOP', list) end
    call('PEXPIRE', list, 10000)
    if arrival then call('HSET', P .. 'credit:' .. pool, 'woken', arrival) end
  end
end

local function leave_turns(priority, kind, group)
  call('ZREM', P .. 'groups:' .. priority .. ':' .. kind, group)
  if group ~= '' then call('ZREM', P .. 'lanes:' .. priority .. ':' .. kind, group) end
end

local parts, made = {}, {} -- what is made of them; which are

-- policy_of(kind): what bounds the jobs of the type; nil if nothing does, and false if nothing bounds those of any. A store
-- where nothing is configured pays one look a script.
local policies, is_bounded = {}, nil
local function policy_of(kind)
  if is_bounded == nil then is_bounded = call('EXISTS', P .. 'flow') == 1 end
  if not is_bounded then return false end
  if policies[kind] == nil then
    local text = call('HGET', P .. 'flow', kind)
    policies[kind] = text and cjson.decode(text) or false
  end
  return policies[kind] or nil
end

-- commit(): what every script writes last.
local function commit()
  local woken = {}
  local entered = 0
  if made.limits then parts.limits.offer_places() end
  for _, entering in ipairs(lanes) do
    local lane, priority, kind, group = unpack(entering, 1, 4)
    for i = 5, #entering, 1000 do
      call('ZADD', P .. 'lane:' .. lane, unpack(entering, i, math.min(i + 999, #entering)))
    end
    entered = entered + (#entering - 4) / 2
    local pools, policy = pools_of(kind), policy_of(kind)
    local is_new = call('ZADD', P .. 'groups:' .. priority .. ':' .. kind, 'NX', next_turn(), group) == 1
    if is_new and group ~= '' then call('ZADD', P .. 'lanes:' .. priority .. ':' .. kind, 0, group) end
    if policy then
      local late = parts.limits.is_paused(policy, priority) and PARKED or parts.limits.type_until(kind, policy)
      for _, pool in ipairs(pools) do
        if parts.limits.arrive(priority, kind, pool, policy, late, is_new) then woken[pool] = true end
      end
    else
      for _, pool in ipairs(pools) do
        if is_new then call('ZADD', P .. 'ready:' .. priority .. ':' .. pool, 'NX', turn, kind) end
        woken[pool] = true
      end
    end
  end
  if entered > 1 then call('INCRBY', P .. 'seq', entered - 1) end
  for pool in pairs(woken) do wake(pool, turn) end
  if turn then call('SET', P .. 'turn', string.format('%.10f', turn)) end
  for field, by in pairs(counts) do
    if by ~= 0 and call('HINCRBY', P .. 'counts', field, by) == 0 then call('HDEL', P .. 'counts', field) end
  end
  for what, by in pairs(totals) do call('HINCRBY', P .. 'totals', what, by) end
  write_typed_totals()
  if made.limits then parts.limits.write_running() end
  for _, one in ipairs(publications) do redis.pcall('PUBLISH', one[1], one[2]) end
end

local function put_body(name, id, body, fields)
  if #body > INLINE then
    call('SET', P .. name .. ':' .. id, body)
  else
    fields[#fields + 1] = name
    fields[#fields + 1] = body
  end
end

-- A job that somebody follows is told of at every change; one that is only waited for, when it ends.
local function tell_followers(id, watched)
  if watched == '2' then publish('changed', id) end
end

local function tell_watchers(id)
  publish('ended', id)
end
