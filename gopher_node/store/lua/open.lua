#!lua flags=allow-oom
-- open(layout): enters the namespace, whose data have the layout of the first that entered. Answers that layout.
call('SETNX', P .. 'layout', ARGV[2])
return call('GET', P .. 'layout')
