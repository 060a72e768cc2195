#!lua flags=allow-oom
-- minute(): writes down what happened since the last time, as the last whole minute; forgets nodes that fell silent.
-- Whichever node comes first in a minute does it; for all others, and told again, nothing is left to do.
-- Answers 1 if it was the first, else 0.
local TYPES_SHOWN = 100 -- of a minute, by how much happened; all others are one, (other)
local DAYS = 2
local minute = math.floor(now / 60000) * 60000 - 60000
local mark, history = P .. 'minute', P .. 'history'
local last = tonumber(call('HGET', mark, '') or nil)
-- Two minutes in the future or more is a clock that was set back, which must not stop history until it is there again.
if last and last >= minute and last - minute < 120000 then return 0 end

local marked, marks = {}, call('HGETALL', mark)
for i = 1, #marks, 2 do marked[marks[i]] = marks[i + 1] end
local fields, totals, types = {'', string.format('%.0f', minute)}, {}, {}
local activity, names = {}, {}
local function look(flat)
  for i = 1, #flat, 2 do
    local field, value = flat[i], tonumber(flat[i + 1])
    local text = marked[field]
    local before, delta_before = string.match(text or '', '^(%d+) (%d+)$')
    local delta = math.max(0, value - (tonumber(before) or 0)) -- a failover may have lost some
    local mark_now = string.format('%.0f %.0f', value, delta)
    if field ~= '' and mark_now ~= text then
      fields[#fields + 1] = field
      fields[#fields + 1] = mark_now
    end
    if field ~= '' and delta > 0 then
      local what, kind = string.match(field, '^([^:]+):?(.*)$')
      totals[what] = (totals[what] or 0) + delta
      if kind ~= '' then
        if not types[kind] then
          types[kind] = {}
          names[#names + 1] = kind
        end
        types[kind][what] = delta
        activity[kind] = (activity[kind] or 0) + delta
      end
    end
  end
end
look(call('HGETALL', P .. 'totals'))
look(call('HGETALL', P .. 'totals-by-type'))

table.sort(names, function(a, b)
  if activity[a] ~= activity[b] then return activity[a] > activity[b] end
  return a < b
end)
for n = TYPES_SHOWN + 1, #names do
  local all = types['(other)'] or {}
  types['(other)'] = all
  if names[n] ~= '(other)' then
    for what, delta in pairs(types[names[n]]) do all[what] = (all[what] or 0) + delta end
    types[names[n]] = nil
  end
end
local record = cjson.encode({at = minute, totals = totals, types = types})

local silent, nodes = {}, call('HGETALL', P .. 'nodes')
for i = 1, #nodes, 2 do
  if math.abs(now - (tonumber(string.match(nodes[i + 1], '^%d+')) or 0)) > NODE_SILENT then silent[#silent + 1] = nodes[i] end
end

for i = 1, #fields, 1000 do call('HSET', mark, unpack(fields, i, math.min(i + 999, #fields))) end
call('ZREMRANGEBYSCORE', history, '-inf', minute - DAYS * 24 * 3600000)
call('ZREMRANGEBYSCORE', history, minute, '+inf')
call('ZADD', history, minute, record)
for _, node in ipairs(silent) do call('HDEL', P .. 'nodes', node) end
return 1
