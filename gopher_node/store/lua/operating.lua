-- What the scripts of operators share.

-- What tells an operation again, because its answer was lost, from one that is new: a job that it changed has its id, and
-- behind that the state before. Where no job is left to have it, the answer itself is kept, as reply:<operation>.
local function answered_before(operation, mark)
  if mark and string.sub(mark, 1, #operation + 1) == operation .. ':' then return string.sub(mark, #operation + 2) end
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do found[word] = true end
  return found
end
