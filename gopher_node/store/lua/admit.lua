#!lua flags=allow-oom
-- admit(id, limit, window in ms): whether one more request of this key is within `limit` per `window`.
-- Answers {1 or 0, how many more would be let in now, ms: see below}.
--
-- The generic cell rate algorithm (ITU-T I.371, annex A; ATM Forum, Traffic Management 4.0, §4.4.2), in its form as a
-- continuous-state leaky bucket: each request that is let in fills the bucket by T = window / limit, the bucket runs out
-- with time, and a request is refused if it would overflow, at `window`. So `limit` may come at once, and in any span of
-- s ms no more than limit + s * limit / window.
-- The bucket is counted in ms * limit, in which T is `window` and a ms is `limit`: whole numbers, so nothing is rounded.
local key, limit, window = P .. 'rate:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local at, fill, had_limit, had_window = string.match(call('GET', key) or '', '^(%d+) (%d+) (%d+) (%d+)$')
local stepped_back = at and now < tonumber(at)
fill = math.max(0, (tonumber(fill) or 0) - math.max(0, now - (tonumber(at) or now)) * (tonumber(had_limit) or limit))
if fill > 0 and (tonumber(had_limit) ~= limit or tonumber(had_window) ~= window) then
  -- The limit was changed: the bucket stays as full as it was, in parts of what it holds.
  fill = math.min(limit * window, math.ceil(fill / (had_limit * had_window) * limit * window))
end

local allowed = fill + window <= limit * window
if allowed then fill = fill + window end
if allowed or stepped_back then
  local life = math.ceil(fill / limit) + 1000
  call('SET', key, string.format('%.0f %.0f %.0f %.0f', now, fill, limit, window), 'PX', string.format('%.0f', life))
end
local left = math.floor((limit * window - fill) / window)
-- Let in: until the bucket is empty. Refused: until it has room for one.
local wait = allowed and fill or fill - (limit - 1) * window
return {allowed and 1 or 0, left, math.ceil(wait / limit)}
