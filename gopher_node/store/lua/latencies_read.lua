#!lua flags=no-writes
-- latencies_read('recent', minutes, after): the nodes' shares of so many last whole minutes and of the present one, but
-- for those up to `after`, in ms. Answers {server time in ms, minute in ms, {JSON…}, …}, without minutes of which nobody said anything.
-- latencies_read('due'): the oldest minute that all nodes have reported by now and nobody has summarised: {minute, {JSON…}}, or nil.
local LOOK_BACK = 15 * 60000 -- a minute's shares are there for longer
local present = math.floor(now / 60000) * 60000
local function shares(minute)
  local found = call('HVALS', P .. 'latency:' .. string.format('%.0f', minute))
  for n, record in ipairs(found) do found[n] = string.match(record, '^%d+ (.*)$') end
  return found
end
if ARGV[2] == 'recent' then
  local answer = {now}
  for minute = math.max(present - ARGV[3] * 60000, ARGV[4] + 60000), present, 60000 do
    local found = shares(minute)
    if found[1] then
      answer[#answer + 1] = minute
      answer[#answer + 1] = found
    end
  end
  return answer
end
-- The last minute is not whole before those nodes have reported that do so last.
for minute = present - LOOK_BACK, present - 120000, 60000 do
  if call('ZCOUNT', P .. 'latency-history', minute, minute) == 0 then
    local found = shares(minute)
    if found[1] then return {minute, found} end
  end
end
return nil
