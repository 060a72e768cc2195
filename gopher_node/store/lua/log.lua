#!lua
-- log(id, attempt, nonce, batch, line…): adds lines to the log of a run's job; the oldest go when it has too many.
--   ARGV[5] id of these lines: told again, nothing is added
-- Answers 'ok', 'cancel' if the run should stop, or 'stale'.
local MOST_LINES, MOST_BYTES = 1000, 65536
local id, batch = ARGV[2], ARGV[5]
local key, list = P .. 'job:' .. id, P .. 'log:' .. id
local job = call('HMGET', key, 'state', 'attempt', 'nonce', 'cancel', 'log')
if job[1] ~= 'processing' or job[2] ~= ARGV[3] or job[3] ~= ARGV[4] then return 'stale' end
local bytes, gone, last = string.match(job[5] or '0 0 -', '^(%d+) (%d+) (%S+)$')
if last ~= batch then
  bytes, gone = tonumber(bytes), tonumber(gone)
  local count
  for n = 6, #ARGV do
    count = call('RPUSH', list, ARGV[n])
    bytes = bytes + #ARGV[n]
    while count > MOST_LINES or bytes > MOST_BYTES do
      bytes = bytes - #call('LPOP', list)
      gone, count = gone + 1, count - 1
    end
  end
  call('HSET', key, 'log', string.format('%.0f %.0f %s', bytes, gone, batch))
end
return job[4] and 'cancel' or 'ok'
