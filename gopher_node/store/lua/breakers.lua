#!lua flags=no-writes
-- breakers(type…): how the breakers of these types stand; of all that have one, if none is named.
-- Answers for each {type, its policy's breaker as JSON, state, since in ms, until in ms or nil, the probe's job or nil, how
-- many runs ended well within the window, and how many did not}, or nil if the type has no breaker.
local breaker = parts.breaker
local kinds = {unpack(ARGV, 2)}
if not kinds[1] then
  for _, kind in ipairs(call('HKEYS', P .. 'flow')) do
    local policy = policy_of(kind)
    if policy and policy.breaker then kinds[#kinds + 1] = kind end
  end
end
local answers = {}
for n, kind in ipairs(kinds) do
  local policy = policy_of(kind)
  answers[n] = false
  if policy and policy.breaker then
    local found = breaker.of(kind)
    local ok, failed = breaker.window(found, policy)
    answers[n] = {kind, cjson.encode(policy.breaker), found.state, tonumber(found.since),
                  tonumber(found['until']) or false, found.probe or false, ok, failed}
  end
end
return answers
