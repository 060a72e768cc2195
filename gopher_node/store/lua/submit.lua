#!lua
-- submit(count, job…): stores new jobs, all in this one step, into their lanes or into `due`.
--   ARGV[2] = number of jobs; from ARGV[3] on, twelve fields a job (see store_job)
-- Answers one {state, created?, created in ms, due in ms or nil} a job. An id that is known changes nothing.
local answers = {}
for n = 1, tonumber(ARGV[2]) do
  answers[n] = store_job(3 + (n - 1) * NEW_JOB_FIELDS)
end
commit()
return answers
