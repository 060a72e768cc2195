#!lua flags=no-writes
-- snapshot('counts', cursor): a step over how many jobs there are: {where the next step begins, '0' if there is none;
--   state:priority:type, number…}. A field may come in two steps.
-- snapshot('types', type…): how these types stand, each of {its policy as JSON or '', its breaker's state or '', 1 if it
--   waits for a token of its rate}; before them for how many ms the first scheduled job has been due, 0 if none is.
-- snapshot('policies'): the types that have a policy.
local wanted = ARGV[2]
if wanted == 'policies' then return call('HKEYS', P .. 'flow') end
if wanted == 'counts' then return call('HSCAN', P .. 'counts', ARGV[3], 'COUNT', 1000) end

local first = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
local answers = {first[2] and math.max(0, math.floor(now - first[2])) or 0}
for n = 3, #ARGV do
  local kind = ARGV[n]
  local policy = policy_of(kind)
  if policy then
    local rate, waits = policy.rate, 0
    if rate and parts.limits.whole_tokens((parts.limits.tokens_left(kind, '', rate))) < 1 then waits = 1 end
    local state = policy.breaker and parts.breaker.of(kind).state or ''
    answers[n - 1] = {call('HGET', P .. 'flow', kind), state, waits}
  else
    answers[n - 1] = {'', '', 0}
  end
end
return answers
