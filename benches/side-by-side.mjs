// A command: the edge beside what one would otherwise write, and beside the platform's ceiling,
// on the same stores, in the same minutes.
//
//     node benches/side-by-side.mjs [--quick] [--runs=5] [--only=WORDS] [--json=FILE]
//     node benches/side-by-side.mjs --from=FILE [--markdown]     the tables of an earlier run
//
// Contestants take turns: each run has all of them, one after the other, in another order, so that
// what else the machine does meets all. It measures and prints; what is asked is in scenarios.mjs,
// who answers in contestants.mjs, and what the numbers mean in report.mjs.

import { readFile, writeFile } from "node:fs/promises";
import os from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { stores } from "../tests/edge.mjs";
import { ANSWERING, CONTESTANTS, ceilingsOf } from "./contestants.mjs";
import { delayed } from "./delay-proxy.mjs";
import { load } from "./load.mjs";
import { markdown, tables } from "./report.mjs";
import { prepare, SCENARIOS, warm } from "./scenarios.mjs";
import * as wasm from "./wasm.mjs";

const { values: given } = parseArgs({
  options: {
    quick: { type: "boolean" },
    runs: { type: "string" },
    only: { type: "string", default: "" },
    json: { type: "string" },
    from: { type: "string" },
    markdown: { type: "boolean" },
  },
});
const show = given.markdown ? markdown : tables;
if (given.from) {
  console.log(show(JSON.parse(await readFile(given.from, "utf8"))));
  process.exit();
}

const RUNS = Number(given.runs ?? (given.quick ? 1 : 5));
const ROUND_TRIP_MS = 20;
/** Many connections are opened in the first moments, which a longer run makes fewer than one in a hundred. */
const CLOSED = given.quick ? [[16, 0.5]] : [[1, 0.8], [16, 0.8], [128, 2]];
const OPEN_S = given.quick ? 1 : 1.5;
const FAR_REQUESTS = given.quick ? 10 : 25;
/** Few, because each is asked for beforehand, and that takes its time. */
const FAR_PATHS = 20;
/** What goes on after an answer, such as filling and taking leave, belongs to the request too. */
const SETTLED_MS = 8 * ROUND_TRIP_MS;

const chosen = SCENARIOS.filter(({ name }) => name.includes(given.only));
const say = (words) => process.stderr.write(`${words}\n`);
/** Everything that must be closed at the end, in that order. */
const open = [];
const result = {
  machine: { cpu: os.cpus()[0].model.trim(), cpus: os.cpus().length, load_average_before: os.loadavg()[0], kernel: os.release() },
  date: new Date().toISOString(),
  runs: RUNS,
  round_trip_ms: ROUND_TRIP_MS,
  load: [],
  distance: [],
};

try {
  const near = await stores();
  open.push(near);
  await prepare(near.settings);
  for (const scenario of chosen) await compare(scenario, near.settings);
  await overDistance(near.settings);
  if (!given.only) await weigh(near.settings);
  result.machine.load_average_after = os.loadavg()[0];
  if (given.json) await writeFile(given.json, JSON.stringify(result, null, 1));
  console.log(show(result));
} finally {
  for (const one of open.reverse()) await one.close();
}

/** Those who take part: { name: started }, all of them ready, none of them asked. */
async function line_up(names, settings) {
  const started = {};
  for (const name of names) started[name] = await CONTESTANTS[name](settings);
  return started;
}

/** One scenario next to the stores: all connections, all runs, and the open loop. */
async function compare(scenario, settings) {
  const started = await line_up(ANSWERING, { ...settings, ...scenario.settings });
  try {
    for (const it of Object.values(started)) it.body_bytes = await warm(it.url, scenario);
    Object.assign(started, await line_up(ceilingsOf(scenario), { ...settings, BODY_BYTES: String(started.edge.body_bytes) }));

    // V8 needs a moment to compile what is hot, and the open loop a rate that all can keep.
    const rates = {};
    for (const [name, it] of Object.entries(started)) rates[name] = (await load(it, scenario, { connections: 16, seconds: 1 })).per_s;
    const rate = Math.max(10, Math.floor(Math.min(...Object.values(rates)) / 2));
    say(`${scenario.name}: ${Object.entries(rates).map(([name, per_s]) => `${name} ${per_s.toFixed(0)}/s`).join(", ")}; open loop ${rate}/s`);

    for (let run = 0; run < RUNS; run++) {
      for (const name of turned(Object.keys(started), run)) {
        const record = async (kind, how) => {
          // While the others had their turns, copies in memory became too old to answer.
          if (scenario.is_l1) await warm(started[name].url, scenario);
          const measured = await load(started[name], scenario, how);
          result.load.push({ scenario: scenario.name, contestant: name, run, kind, rate: how.rate, ...measured });
        };
        for (const [connections, seconds] of CLOSED) await record(connections, { connections, seconds });
        await record("open", { rate, seconds: OPEN_S });
      }
    }
  } finally {
    for (const it of Object.values(started)) await it.close();
  }
}

/** The stores a round trip away, one request after the other: what a user far from the data feels. */
async function overDistance(settings) {
  const far = { VALKEY_URL: await delayed(settings.VALKEY_URL, ROUND_TRIP_MS), DATABASE_URL: await delayed(settings.DATABASE_URL, ROUND_TRIP_MS) };
  open.push(...Object.values(far));
  const urls = Object.fromEntries(Object.entries(far).map(([name, { url }]) => [name, url]));
  for (const { paths, ...rest } of chosen.filter(({ is_l1 }) => !is_l1)) {
    const scenario = { ...rest, paths: paths.slice(0, FAR_PATHS) };
    say(`${scenario.name}, ${ROUND_TRIP_MS} ms away`);
    const started = await line_up(ANSWERING, { ...urls, ...scenario.settings });
    try {
      for (const [name, it] of Object.entries(started)) {
        await warm(it.url, scenario);
        await load(it, scenario, { connections: 1, requests: 5 });
      }
      for (let run = 0; run < RUNS; run++) {
        for (const name of turned(Object.keys(started), run)) {
          await pause(SETTLED_MS);
          const before = structuredClone([far.VALKEY_URL.counts, far.DATABASE_URL.counts]);
          const measured = await load(started[name], scenario, { connections: 1, requests: FAR_REQUESTS });
          await pause(SETTLED_MS);
          const each = (store, at, what) => (store.counts[what] - before[at][what]) / measured.requests;
          result.distance.push({
            scenario: scenario.name,
            contestant: name,
            run,
            ...measured,
            valkey: { round_trips: each(far.VALKEY_URL, 0, "round_trips"), connections: each(far.VALKEY_URL, 0, "connections") },
            postgres: { round_trips: each(far.DATABASE_URL, 1, "round_trips"), connections: each(far.DATABASE_URL, 1, "connections") },
          });
        }
      }
    } finally {
      for (const it of Object.values(started)) await it.close();
    }
  }
}

async function weigh(settings) {
  say("the Wasm");
  const times = Math.max(3, RUNS);
  const first = { edge: [], bare: [] };
  for (let n = 0; n < times; n++) {
    first.edge.push(await wasm.firstAnswer(CONTESTANTS.edge, settings));
    first.bare.push(await wasm.firstAnswer(CONTESTANTS.bare, { BODY_BYTES: "100" }));
  }
  result.wasm = {
    ...wasm.size(),
    instantiation: Array.from({ length: times }, wasm.instantiation),
    first_answer_ms: first,
    memory: await wasm.memoryWithFullL1(CONTESTANTS.edge, settings),
  };
}

function turned(list, by) {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}
