#!lua flags=no-writes
-- get(id…): answers for each {id, {name, value…}, payload or nil, result or nil, {attempt…}}, or nil if there is none.
local answers = {}
for n = 2, #ARGV do
  local id = ARGV[n]
  local job = call('HGETALL', P .. 'job:' .. id)
  answers[n - 1] = job[1] and {id, job, call('GET', P .. 'payload:' .. id), call('GET', P .. 'result:' .. id),
                               call('LRANGE', P .. 'attempts:' .. id, 0, -1)} or false
end
return answers
