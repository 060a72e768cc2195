#!/usr/bin/env bash
# worker.sh TYPE COMMAND...: for each job, COMMAND reads the payload from its input and prints the result.
set -u
url=${GOPHER_URL:-http://localhost:8080}/api/v1/leases type=$1 files=$(mktemp -d); shift
trap 'rm -r "$files"' EXIT
echo "${GOPHER_API_KEY:+Authorization: Bearer $GOPHER_API_KEY}" >"$files/key"
call() { # sends its input again and again until the node has answered, for it may be restarting
  curl -sS --json @- -H @"$files/key" -H "Idempotency-Key: $HOSTNAME-$$-$(date +%s)-$RANDOM" --max-time 60 \
    --retry 99999 --retry-all-errors --retry-delay 1 "$url$1" 2>>"$files/log"
}
while :; do
  lease=$(jq -n '{types: $ARGS.positional, wait: "30s", lease: "15s", worker: "bash"}' --args "$type" | call "" |
    jq -c '.items[0] // empty')
  [ "$lease" ] || { sleep 1; continue; }
  token=$(jq -r .token <<<"$lease")
  export GOPHER_JOB_ID=$(jq -r .job.job_id <<<"$lease")
  jq .job.payload <<<"$lease" | "$@" >"$files/out" 2>"$files/err" & work=$!
  while sleep 5 && kill -0 $$; do # a lease that is lost, or a job that is to be cancelled, ends the work
    call "/$token/heartbeat" <<<'{}' | jq -e '.cancel_requested == false' || kill $work
  done &>/dev/null & heartbeat=$!
  wait $work; code=$?
  kill $heartbeat
  case $code in
    0) jq -Rs '{result: (. as $text | try fromjson catch $text)}' "$files/out" | call "/$token/complete" ;;
    143) call "/$token/release" <<<'{}' ;;
    *) jq -Rs '{error: rtrimstr("\n")}' "$files/err" | call "/$token/fail" ;;
  esac | jq -c '{job_id, status, detail}'
done
