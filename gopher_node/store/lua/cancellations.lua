#!lua flags=no-writes
-- cancellations(session): answers the ids of the session's jobs that somebody wants cancelled.
local wanted = {}
for _, id in ipairs(call('SMEMBERS', P .. 'held:' .. ARGV[2])) do
  if call('HEXISTS', P .. 'job:' .. id, 'cancel') == 1 then wanted[#wanted + 1] = id end
end
return wanted
