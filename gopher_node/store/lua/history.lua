#!lua flags=no-writes
-- history(minutes, after in ms or '', limit, type or ''): answers what is written down of the last whole minutes, the oldest
-- first: {JSON, latencies…}. JSON is {"at", "totals": {what: number}, "types": {type: {what: number}}}; latencies are those of the
-- type, or of all jobs, as JSON: a list, or '' where there are none.
local from = math.floor(now / 60000) * 60000 - ARGV[2] * 60000
local after = tonumber(ARGV[3])
if after and after >= from then from = after + 1 end
local found = call('ZRANGEBYSCORE', P .. 'history', from, now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[4]))
if not found[1] then return found end
-- All of a summary would be a hundred times as much as is wanted of it.
local took, wanted = {}, '"' .. ARGV[5] .. '":['
for _, summary in ipairs(call('ZRANGEBYSCORE', P .. 'latency-history', found[2], found[#found])) do
  local first, last = string.find(summary, wanted, 1, true)
  if first then took[string.match(summary, '^%d+')] = string.match(summary, '^[^%]]*%]', last) end
end
for i = 2, #found, 2 do found[i] = took[string.format('%.0f', found[i])] or '' end
return found
