#!lua flags=allow-oom
-- open_session(session, lease in ms, node): the session may claim for as long as it is renewed.
local session, lease, node = ARGV[2], ARGV[3], ARGV[4]
if call('HSETNX', P .. 'sessions', session, '0:' .. lease .. ':' .. node) == 1 then
  call('HSET', P .. 'session:' .. session, 'lease', lease, 'node', node, 'opened', now)
end
return 1
