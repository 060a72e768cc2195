#!lua flags=allow-oom
-- open_pool(pool, most, type…): from now on the types of this pool that have work stand in its ready indexes.
--   ARGV[3] how many pools a type may be in for a new one to be opened, or '' for any number
-- Answers 1, or 0 if a number is given and the pool is new, and one of its types is in too many pools, for each of them
-- makes a new job dearer, or there are too many in all.
local POOLS = 1000 -- that there may be in all for such a new one to be opened
local pool, most = ARGV[2], tonumber(ARGV[3])
if most and not call('ZSCORE', P .. 'pools', pool) then
  if call('ZCARD', P .. 'pools') >= POOLS then return 0 end
  for i = 4, #ARGV do
    if call('SCARD', P .. 'pools-of:' .. ARGV[i]) >= most then return 0 end
  end
end
for i = 4, #ARGV do
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
