#!lua flags=no-writes
-- stats(): answers {counts as name, number…; totals as name, number…; number of sessions; number of pools}.
local sums, order = {}, {}
local function add_up(name, number)
  if not sums[name] then
    sums[name] = 0
    order[#order + 1] = name
  end
  sums[name] = sums[name] + number
end
local flat = call('HGETALL', P .. 'totals')
for i = 1, #flat, 2 do add_up(flat[i], flat[i + 1]) end
flat = call('HGETALL', P .. 'totals-by-type')
for i = 1, #flat, 2 do
  if flat[i] ~= '' then add_up(string.match(flat[i], '^[^:]+'), flat[i + 1]) end
end
local totals = {}
for n, name in ipairs(order) do totals[2 * n - 1], totals[2 * n] = name, string.format('%.0f', sums[name]) end
return {call('HGETALL', P .. 'counts'), totals, call('HLEN', P .. 'sessions'), call('ZCARD', P .. 'pools')}
