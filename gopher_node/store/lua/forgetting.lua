-- How jobs are forgotten, and sessions.

-- forget(id, kind, tags, options, state): the job stands in no state index any more; nothing of it stays. `state` is its
-- final one; of a job that has not ended, ending.commit() tells those who wait for it.
local function forget(id, kind, tags, options, state)
  if options then parts.unique.let_go(id, kind, options, true) end
  call('UNLINK', P .. 'job:' .. id, P .. 'payload:' .. id, P .. 'result:' .. id, P .. 'attempts:' .. id, P .. 'log:' .. id)
  for tag in string.gmatch(tags or '', '%S+') do call('ZREM', P .. 'tag:' .. tag, id) end
  if options then parts.dependents.job_gone(id, state, options) end
end

local function forget_final(id, state, kind, priority, tags, retention, options)
  call('ZREM', P .. 'final:' .. state, id)
  call('ZREM', P .. 'final:' .. state .. ':' .. kind, id)
  if retention then call('ZREM', P .. 'expiring', id) end
  count(state, priority, kind, -1)
  forget(id, kind, tags, options, state)
end

-- A session that is gone waits for nothing: it would only use a wake-up up.
local function stop_waiting(session)
  for _, pool in ipairs(call('ZRANGE', P .. 'pools', 0, -1)) do call('ZREM', P .. 'waiting:' .. pool, session) end
end

return {forget = forget, forget_final = forget_final, stop_waiting = stop_waiting}
