#!lua flags=no-writes
-- get_flow(): answers type, policy as JSON… for all types that have one. get_flow(type): its policy as JSON, or nil.
if ARGV[2] then return call('HGET', P .. 'flow', ARGV[2]) end
return call('HGETALL', P .. 'flow')
