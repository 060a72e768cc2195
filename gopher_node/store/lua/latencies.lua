#!lua flags=allow-oom
-- latencies('report', node, (minute in ms, how many, JSON)…): how long the jobs of these minutes took on a node, each
-- anew as a whole. What a node says of a minute only ever grows, so what is less came late and changes nothing; nor does
-- a minute that lies in the future, or too far back for anybody to ask.
-- latencies('summary', minute in ms, JSON): what all nodes' shares of a minute came to; who says it first has the word.
-- Answers 1.
local KEPT, DAYS = 20 * 60000, 2
if ARGV[2] == 'report' then
  for at = 4, #ARGV, 3 do
    local minute, number = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    if minute <= now and minute > now - KEPT then
      local key = P .. 'latency:' .. string.format('%.0f', minute)
      local told = string.match(call('HGET', key, ARGV[3]) or '', '^%d+')
      if not told or tonumber(told) <= number then
        call('HSET', key, ARGV[3], string.format('%.0f', number) .. ' ' .. ARGV[at + 2])
        call('PEXPIRE', key, KEPT)
      end
    end
  end
  return 1
end
local summaries, minute = P .. 'latency-history', ARGV[3]
if call('ZCOUNT', summaries, minute, minute) > 0 then return 1 end
call('ZREMRANGEBYSCORE', summaries, '-inf', now - DAYS * 24 * 3600000)
call('ZREMRANGEBYSCORE', summaries, '(' .. string.format('%.0f', now), '+inf')
call('ZADD', summaries, minute, minute .. ' ' .. ARGV[4])
return 1
