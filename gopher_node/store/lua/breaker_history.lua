#!lua flags=no-writes
-- breaker_history(type): the last moves of its breaker, as JSON, the oldest first.
return call('LRANGE', P .. 'breaker-log:' .. ARGV[2], 0, -1)
