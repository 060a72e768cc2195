// node worker.mjs TYPE MODULE: MODULE's default async function gets a job, and a signal to stop, and returns the result.
import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
const { GOPHER_URL = "http://localhost:8080", GOPHER_API_KEY: key, SLOTS: slots = 10 } = process.env;
const [type, module] = process.argv.slice(2), { default: work } = await import(resolve(module));
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
async function call(path, body, signal) { // again and again until the node has answered, for it may be restarting
  const headers = { "Content-Type": "application/json", "Idempotency-Key": randomUUID(), ...(key && { "X-API-Key": key }) };
  for (; !signal?.aborted; await sleep(1000)) {
    const sent = fetch(`${GOPHER_URL}/api/v1/leases${path}`, { method: "POST", headers, body: JSON.stringify(body), signal })
      .then(async (it) => ({ status: it.status, body: await it.json() }));
    const answer = await Promise.race([sent, sleep(45_000)]).catch(() => {}); // a connection may hang, too
    if (answer && answer.status < 500 && answer.status !== 429) return answer.body;
  }
}
async function run({ job, token }) {
  const stop = new AbortController(); // for when the lease is lost, or the job is to be cancelled
  const beats = setInterval(async () => (await call(`/${token}/heartbeat`, {})).cancel_requested === false || stop.abort(), 5000);
  await work(job, stop.signal).then((result) => call(`/${token}/complete`, { result })).catch((error) =>
    stop.signal.aborted ? call(`/${token}/release`, {}) : call(`/${token}/fail`, { error: String(error) })).finally(() => clearInterval(beats));
}
const running = new Set(), stopping = new AbortController();
process.on("SIGTERM", () => stopping.abort()); // what runs is finished, and nothing more is claimed
while (!stopping.signal.aborted) {
  const wanted = { types: [type], max_jobs: slots - running.size, wait: "30s", lease: "15s", worker: "javascript" };
  const items = (await call("", wanted, stopping.signal))?.items ?? [];
  for (const lease of items) { const task = run(lease).then(() => running.delete(task)); running.add(task); }
  await (running.size >= slots ? Promise.race(running) : items.length || sleep(500));
}
await Promise.all(running), process.exit();
