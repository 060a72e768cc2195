#!lua flags=allow-oom
-- force_breaker(operation, type, state): an operator opens or closes the breaker of a type, or leaves it to itself again.
--   ARGV[2] id of this operation: told again, it changes nothing
--   ARGV[4] 'forced-open', 'forced-closed', or 'closed': as if it had never opened, and no longer forced
-- Answers 1, or nil if the type has no breaker.
local breaker, limits = parts.breaker, parts.limits
local operation, kind, state = ARGV[2], ARGV[3], ARGV[4]
local policy = policy_of(kind)
if not (policy and policy.breaker) then return false end
local found = breaker.of(kind)
if found.operation == operation then return 1 end
if found.state ~= state or state == 'closed' then
  breaker.moves(kind, state, state == 'closed' and 'reset' or 'forced', {operation = operation}, breaker.window(found, policy))
  limits.stand_ready(kind, state == 'forced-open' and PARKED or nil)
  commit()
end
return 1
