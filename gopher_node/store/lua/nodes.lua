#!lua flags=allow-oom
-- nodes('all') | nodes('report', node, record) | nodes('forget', node): what the nodes say of themselves.
-- Answers to 'all' {node, ms since its last report, JSON…} of those that are not silent; to 'report' the server's time in
-- ms; to 'forget' 1.
local nodes = P .. 'nodes'
if ARGV[2] == 'report' then
  call('HSET', nodes, ARGV[3], string.format('%.0f', now) .. ' ' .. ARGV[4])
  return now
elseif ARGV[2] == 'forget' then
  call('HDEL', nodes, ARGV[3])
  return 1
end
local found, answer = call('HGETALL', nodes), {}
for i = 1, #found, 2 do
  local at, record = string.match(found[i + 1], '^(%d+) (.*)$')
  if math.abs(now - at) <= NODE_SILENT then
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = math.max(0, now - at)
    answer[#answer + 1] = record
  end
end
return answer
