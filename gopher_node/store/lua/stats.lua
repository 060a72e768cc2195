#!lua flags=no-writes
-- stats(): answers {counts as name, number…; totals as name, number…; number of sessions; number of pools}.
return {call('HGETALL', P .. 'counts'), call('HGETALL', P .. 'totals'), call('HLEN', P .. 'sessions'), call('ZCARD', P .. 'pools')}
