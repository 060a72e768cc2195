#!lua flags=no-writes
-- recurring_read('one', name) | recurring_read('page', after, limit) | recurring_read('due', limit): recurring jobs, the
-- one of this name, those whose names come after another, or those that are due, the longest first.
-- Answers {server time in ms, {name, {field, value…}}…}; of one that there is not, the fields are empty.
local verb = ARGV[2]
local answer = {now}
local names
if verb == 'one' then
  names = {ARGV[3]}
elseif verb == 'page' then
  local after = ARGV[3] == '' and '-' or '(' .. ARGV[3]
  names = call('ZRANGEBYLEX', P .. 'recurring-names', after, '+', 'LIMIT', 0, tonumber(ARGV[4]))
else
  names = call('ZRANGEBYSCORE', P .. 'recurring-due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))
end
for _, name in ipairs(names) do answer[#answer + 1] = {name, call('HGETALL', P .. 'recurring:' .. name)} end
return answer
