# What worker.sh runs in the tests: reports the job, takes its time, and says who it was. A payload may ask for trouble.
payload=$(cat)
exec 3<>"/dev/tcp/127.0.0.1/$(jq -r .port <<<"$payload")"
echo "free $GOPHER_JOB_ID $LEDGER_NAME" >&3
cat <&3 >/dev/null
sleep "$(jq -r --arg least "$LEDGER_SECONDS" '.seconds // $least' <<<"$payload")"
[ "$(jq -r .text <<<"$payload")" != bad ] || { echo "no luck" >&2; exit 1; }
echo "\"$LEDGER_NAME\""
