#!lua
-- recurring_put(name, expected, revision, content, payload, missed, overlap, paused, anchor, next, keep, job…): stores a
-- recurring job, or changes it if it still has the revision that is expected, '' for none.
--   ARGV[4] its revision from then on: told again, it is answered the same; ARGV[9] 1 or ''; ARGV[11] ms of its next fire
--   or ''; ARGV[12] 1 if it stays at the next fire that it has; ARGV[13…] '' or the fields of the job of its first fire,
--   which is then stored ahead: that fire's time is the job's due time, and `next` is the one after it
-- Answers {'stored' | 'same' if it is there with this content | 'exists' | 'changed' | 'gone', server time, its fields}.
local recurring = parts.recurring
local name, expected, revision, content, payload, missed, overlap, paused, anchor, next_fire, keep = unpack(ARGV, 2, 12)
local key = P .. 'recurring:' .. name
local had = call('HMGET', key, 'revision', 'content', 'payload', 'next', 'ahead', 'job')

local word
if had[1] == revision then
  word = 'stored'
elseif had[1] and expected == '' then
  word = had[2] == content and had[3] == payload and 'same' or 'exists'
elseif had[1] and had[1] ~= expected then
  word = 'changed'
elseif not had[1] and expected ~= '' then
  word = 'gone'
end
if word then return {word, now, call('HGETALL', key)} end

-- What goes for the job of its first fire stands for all of it: another payload, another time, or none.
local withdrawn = recurring.withdraw(name, had[5], had[6])
if keep == '1' and had[4] and not withdrawn then next_fire = had[4] end
call('HSET', key, 'content', content, 'payload', payload, 'missed', missed, 'overlap', overlap, 'revision', revision,
     'anchor', anchor, 'updated', now)
call('HSETNX', key, 'created', now)
if paused == '' then call('HDEL', key, 'paused') else call('HSET', key, 'paused', '1') end
recurring.stand_at(name, next_fire)
call('ZADD', P .. 'recurring-names', 0, name)
if ARGV[13] ~= '' then
  parts.storing.store_job(13)
  call('HSET', key, 'last', ARGV[18], 'job', ARGV[13], 'ahead', ARGV[18])
  call('HINCRBY', key, 'fired', 1)
end
if made.ending then parts.ending.commit() end
commit()
return {'stored', now, call('HGETALL', key)}
