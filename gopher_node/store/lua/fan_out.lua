#!lua flags=allow-oom
-- fan_out(limit): releases up to `limit` jobs that wait for what ended before, where a transition had too many of them.
-- Answers {edges and records that it has seen to; workflows that are still to be cancelled…}.
local dependents, ending = parts.dependents, parts.ending
dependents.edges_left(tonumber(ARGV[2]))
local done = 0
while dependents.edges_left() > 0 do
  local record = call('LINDEX', P .. 'fanout', 0)
  if not record then break end
  local number, outcome, parent = string.match(record, '^(%d+) (%a+) (.*)$')
  local before = dependents.edges_left()
  if dependents.release(parent, outcome == 'completed', '(' .. number) then
    call('LPOP', P .. 'fanout')
    dependents.edges_left(dependents.edges_left() - 1)
  end
  done = done + before - dependents.edges_left()
end
ending.commit()
commit()
return {done, unpack(call('ZRANGE', P .. 'cancelling', 0, 9))}
