-- Whether a type takes new jobs of clients. What the store itself makes, follow-ups and retries, is never refused.

local limits, unique = parts.limits, parts.unique

-- refused(at, jobs): {'draining', type} or {'full', type, waiting jobs, max_backlog} if one of the new jobs whose
-- fields start at ARGV[at] may not be stored. One that is known, or meets a twin, is none that is new.
local function refused(at, jobs)
  local new, waiting = {}, {}
  for job = at, at + (jobs - 1) * NEW_JOB_FIELDS, NEW_JOB_FIELDS do
    local id, kind, options = ARGV[job], ARGV[job + 1], ARGV[job + 13]
    local policy = policy_of(kind)
    if policy and (policy.draining or policy.max_backlog) and call('EXISTS', P .. 'job:' .. id) == 0 then
      local named = options ~= '' and cjson.decode(options).unique
      if not (named and unique.twin_of(unique.name(kind, named), id)) then
        if policy.draining then return {'draining', kind} end
        new[kind] = (new[kind] or 0) + 1
        waiting[kind] = waiting[kind]
          or limits.number_of(kind, 'enqueued') + limits.number_of(kind, 'scheduled') + limits.number_of(kind, 'blocked')
        if waiting[kind] + new[kind] > policy.max_backlog then
          return {'full', kind, waiting[kind], policy.max_backlog}
        end
      end
    end
  end
  return nil
end

return {refused = refused}
