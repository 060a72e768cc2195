#!lua flags=no-writes
-- history(minutes, after in ms or '', limit): answers what is written down of the last whole minutes, the oldest first,
-- as JSON: {"at", "totals": {what: number}, "types": {type: {what: number}}}.
local from = math.floor(now / 60000) * 60000 - ARGV[2] * 60000
local after = tonumber(ARGV[3])
if after and after >= from then from = after + 1 end
return call('ZRANGEBYSCORE', P .. 'history', from, now, 'LIMIT', 0, tonumber(ARGV[4]))
