#!lua flags=no-writes
-- log_lines(id, after): what the runs of a job said, but for the first `after` lines.
-- Answers {state, number of all lines there ever were, line…}, or nil if there is no such job.
local job = call('HMGET', P .. 'job:' .. ARGV[2], 'state', 'log')
if not job[1] then return false end
local gone = tonumber(string.match(job[2] or '0 0 -', '^%d+ (%d+)'))
local lines = call('LRANGE', P .. 'log:' .. ARGV[2], math.max(0, tonumber(ARGV[3]) - gone), -1)
local answer = {job[1], gone + call('LLEN', P .. 'log:' .. ARGV[2])}
for n, line in ipairs(lines) do answer[2 + n] = line end
return answer
