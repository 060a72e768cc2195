#!lua flags=allow-oom
-- keys('all') | keys('add', (id, record)…) | keys('revoke', id) | keys('touch', (id, ms)…): the keys that requests show.
-- `add` replaces a record. What was revoked never comes back, not by a copy of an `add` that comes late: then none is added.
-- `touch` notes when keys were used last, and only ever moves that forward.
-- Answers to 'all' {records as id, JSON…; last uses as id, ms…}; to the others 1, or 0 if the key is not there (any more).
local verb = ARGV[2]
local keys, used, revoked = P .. 'keys', P .. 'keys-used', P .. 'keys-revoked'
if verb == 'all' then return {call('HGETALL', keys), call('HGETALL', used)} end

local done = 1
if verb == 'add' then
  for i = 3, #ARGV, 2 do
    if call('ZSCORE', revoked, ARGV[i]) then return 0 end
  end
  for i = 3, #ARGV, 2 do call('HSET', keys, ARGV[i], ARGV[i + 1]) end
  publish('keys', ARGV[3])
elseif verb == 'revoke' then
  local id = ARGV[3]
  if call('HDEL', keys, id) == 0 then
    -- Told again, for the first answer was lost, it was there.
    return call('ZSCORE', revoked, id) and 1 or 0
  end
  call('HDEL', used, id)
  call('ZREMRANGEBYSCORE', revoked, '-inf', now - 24 * 3600000)
  call('ZADD', revoked, now, id)
  publish('keys', id)
else
  for i = 3, #ARGV, 2 do
    local id, at = ARGV[i], tonumber(ARGV[i + 1])
    if call('HEXISTS', keys, id) == 0 then
      done = 0
    elseif at > tonumber(call('HGET', used, id) or 0) then
      call('HSET', used, id, string.format('%.0f', at))
    end
  end
end
commit()
return done
