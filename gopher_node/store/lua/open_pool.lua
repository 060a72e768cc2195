#!lua flags=allow-oom
-- open_pool(pool, type…): from now on the types of this pool that have work stand in its ready indexes.
local pool = ARGV[2]
for i = 3, #ARGV do
  local kind = ARGV[i]
  call('SADD', P .. 'pool:' .. pool, kind)
  call('SADD', P .. 'pools-of:' .. kind, pool)
  for _, priority in ipairs(PRIORITIES) do
    if call('EXISTS', P .. 'groups:' .. priority .. ':' .. kind) == 1 then
      call('ZADD', P .. 'ready:' .. priority .. ':' .. pool, 'NX', 0, kind)
    end
  end
end
call('ZADD', P .. 'pools', now, pool)
return 1
