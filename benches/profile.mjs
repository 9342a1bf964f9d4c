// A command: where the time of a Worker goes while it answers one scenario, by V8's own profiler
// over workerd's inspector; functions by the time spent in themselves.
//
//     node benches/profile.mjs [CONTESTANT, default edge] [SCENARIO, default "session, from L1"]
//
// `(program)` is everything that is not JavaScript or Wasm: workerd's C++, HTTP, system calls.
// The functions of the Wasm have names after WASM_NAMES=1 scripts/build.
// Knows nothing of what it profiles.

import { freePort, stores } from "../tests/edge.mjs";
import { inspect } from "../tests/inspector.mjs";
import { CONTESTANTS } from "./contestants.mjs";
import { load } from "./load.mjs";
import { prepare, SCENARIOS, warm } from "./scenarios.mjs";

const [name = "edge", wanted = SCENARIOS[0].name] = process.argv.slice(2);
const SECONDS = 4;
const scenario = SCENARIOS.find(({ name }) => name === wanted);
if (!scenario || !CONTESTANTS[name]) {
  console.error(`usage: node benches/profile.mjs [${Object.keys(CONTESTANTS).join("|")}] [${SCENARIOS.map(({ name }) => `"${name}"`).join("|")}]`);
  process.exit(2);
}

const near = await stores();
await prepare(near.settings);
const inspector = await freePort();
const it = await CONTESTANTS[name]({ ...near.settings, ...scenario.settings, BODY_BYTES: "600" }, { inspector });
try {
  const { ask, close } = await inspect(inspector);
  await warm(it.url, scenario);
  await load(it, scenario, { connections: 16, seconds: 2 });
  await ask("Profiler.enable");
  await ask("Profiler.setSamplingInterval", { interval: 200 });
  await ask("Profiler.start");
  const { requests } = await load(it, scenario, { connections: 16, seconds: SECONDS });
  const { profile } = await ask("Profiler.stop");
  close();

  const self_us = new Map();
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  profile.samples.forEach((id, at) => {
    const { functionName, url, lineNumber, columnNumber } = nodes.get(id).callFrame;
    const place = functionName.startsWith("(") ? functionName : `${functionName || "(anonymous)"}  ${url.split("/").at(-1)}:${lineNumber + 1}:${columnNumber + 1}`;
    self_us.set(place, (self_us.get(place) ?? 0) + profile.timeDeltas[at]);
  });
  console.log(`${name}, ${wanted}: ${requests} requests in ${SECONDS} s; µs of each request, by function`);
  for (const [place, us] of [...self_us].sort(([, a], [, b]) => b - a).slice(0, 45)) console.log(`${(us / requests).toFixed(2).padStart(8)}  ${place}`);
} finally {
  await it.close();
  await near.close();
}
