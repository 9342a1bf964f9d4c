// A command: mixed traffic with clients that go away, against the Wasm in workerd over real
// stores, for some minutes; prints the memory every 30 s and at the end whether it stayed flat:
// that of the process, and of the isolate (V8's heap and the Wasm's memory) once its garbage is
// collected. Is V8 left alone, the process keeps much that nobody uses any more.
//
//     node tests/soak.mjs [MINUTES, default 10]        SEED=… repeats the requests
//
// Exits with 1 when memory is not flat or any answer was wrong. Not a test of its own, because
// only time shows it; faults/storm.test.mjs asks the same in short.

import pg from "pg";
import { cheapRole } from "./cheap-role.mjs";
import { freePort, stores, workerd } from "./edge.mjs";
import { inspect } from "./inspector.mjs";
import { memory } from "./observe.mjs";
import { prepare, random, traffic } from "./traffic.mjs";

const MINUTES = Number(process.argv[2] ?? 10);
const SEED = Number(process.env.SEED ?? Date.now() % 1e9);
const LINE_MS = Math.min(30_000, (MINUTES * 60_000) / 8);
const WITHIN_MS = 20_000;
/** V8 collects at leisure, so single samples jump: the medians of thirds are compared. */
const GROWTH_MIB = 48;
/** The same of what is still in use: tables that fill up to their bounds. */
const USED_GROWTH_MIB = 4;

if (!(MINUTES > 0)) {
  console.error("usage: node tests/soak.mjs [MINUTES]");
  process.exit(2);
}

const real = await stores();
const database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
await database.connect();
await prepare(database, real.settings.VALKEY_URL);
const url = await cheapRole(database, real.settings.DATABASE_URL, "soak");
const inspector = await freePort();
const settings = {
  ...real.settings,
  DATABASE_URL: url.href,
  // Short copies, so that all tiers have work.
  L1_MAX_AGE_MS: "500",
  COPY_MAX_AGE_MS: "1500",
  POSTGRES_DEADLINE_MS: "9000",
  VALKEY_DEADLINE_MS: "9000",
};
const edge = await workerd(settings, { inspector });
const isolate = await inspect(inspector);
console.log(`seed ${SEED}, ${MINUTES} minutes, workerd ${edge.pid}`);

const began = performance.now();
const ends = began + MINUTES * 60_000;
const samples = [];
let requests = 0;
const MIB = 1024 * 1024;
async function sample() {
  // workerd does this and never answers; questions are answered in their order.
  isolate.ask("HeapProfiler.collectGarbage");
  const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await isolate.ask("Runtime.getHeapUsage");
  const used = (usedSize + embedderHeapUsedSize + backingStorageSize) / MIB;
  const { now, peak } = memory(edge.pid);
  samples.push({ now, used });
  const passed_s = (performance.now() - began) / 1000;
  console.log(`${passed_s.toFixed(0).padStart(5)} s   ${now.toFixed(1).padStart(7)} MiB RSS (peak ${peak.toFixed(1)})   ${used.toFixed(1).padStart(6)} MiB in use   ${requests} requests`);
}
await sample();
const timer = setInterval(sample, LINE_MS);
const stop = () => process.exit(130);
process.on("SIGINT", stop);
const counts = await traffic(edge, random(SEED), {
  at_once: 24,
  leaving: 0.2,
  leave_ms: 60,
  within_ms: WITHIN_MS,
  more: (sent) => {
    requests = sent;
    return performance.now() < ends;
  },
});
clearInterval(timer);
await sample();

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
// The first third fills caches and heaps.
const third = Math.floor(samples.length / 3);
const thirds = [samples.slice(third, 2 * third), samples.slice(-third)];
const [middle, last] = thirds.map((part) => median(part.map(({ now }) => now)));
// The least: the rest is of requests under way.
const [used_middle, used_last] = thirds.map((part) => Math.min(...part.map(({ used }) => used)));
const is_flat = last <= middle + GROWTH_MIB && used_last <= used_middle + USED_GROWTH_MIB;
const left_over = (await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'shepherd-edge'")).rows[0].count;
console.log(`${counts.requests} requests, ${counts.left} clients went away, ${counts.refused} answers of 503 or 504, ${counts.wrong.length} wrong`);
counts.wrong.slice(0, 20).forEach((what) => console.log(`wrong: ${what}`));
console.log(`memory is ${is_flat ? "flat" : "NOT FLAT"}: median ${middle.toFixed(1)} MiB in the middle third, ${last.toFixed(1)} MiB in the last; in use ${used_middle.toFixed(1)} and ${used_last.toFixed(1)} MiB; ${left_over} connections in PostgreSQL`);

isolate.close();
await edge.close();
await database.end();
await real.close();
process.exit(is_flat && counts.wrong.length === 0 ? 0 : 1);
