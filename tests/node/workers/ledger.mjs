// What worker.mjs runs in the tests: reports the job, takes its time, and says who it was.
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
const { LEDGER_NAME: name, LEDGER_SECONDS: seconds } = process.env;
export default async function work({ job_id, payload }, signal) {
  await new Promise((heard, failed) => {
    const socket = connect(payload.port, "127.0.0.1", () => socket.write(`free ${job_id} ${name}\n`));
    socket.on("close", heard).on("error", failed).resume();
  });
  await sleep(1000 * (payload.seconds ?? seconds), undefined, { signal });
  if (payload.text === "bad") throw new Error("no luck");
  return name;
}
