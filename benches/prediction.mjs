// A command: how far the simulator is off. The built Wasm in workerd, its stores at a distance; it
// is calibrated, the same traffic is replayed in virtual time and fired at it, and the two are held
// against one another.
//
//     node benches/prediction.mjs [--round-trip-ms=10] [--speed=25] [--requests=20000] [--seeds=20] [--trace=FILE]
//
// Knows only how the commands of the simulator follow one another.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT, stores, workerd } from "../tests/edge.mjs";
import { delayed } from "./delay-proxy.mjs";

const { values: options } = parseArgs({
  options: {
    "round-trip-ms": { type: "string", default: "10" },
    speed: { type: "string", default: "25" },
    // More than the recording has.
    requests: { type: "string", default: "20000" },
    // Predictions, of which the mean counts.
    seeds: { type: "string", default: "20" },
    trace: { type: "string", default: `${ROOT}tests/data/weblog-424-norobots-evening.slt.gz` },
  },
});
/** A busy machine is no fault of the edge's. */
const PATIENT = { VALKEY_DEADLINE_MS: "5000", POSTGRES_DEADLINE_MS: "5000" };

/** Runs the simulator; what it prints goes to a file, or to whoever asked. */
async function sim(args, file) {
  const output = file && (await open(file, "w"));
  const child = spawn(`${ROOT}scripts/sim`, args, { stdio: ["ignore", output ? output.fd : "inherit", "inherit"] });
  const [code] = await once(child, "exit");
  await output?.close();
  if (code !== 0) throw new Error(`sim ${args.join(" ")} ended with ${code}`);
}

const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-prediction-"));
const model = join(directory, "model.json");
const near = await stores();
const round_trip_ms = Number(options["round-trip-ms"]);
const valkey = await delayed(near.settings.VALKEY_URL, round_trip_ms);
const postgres = await delayed(near.settings.DATABASE_URL, round_trip_ms);
const edge = await workerd({ ...PATIENT, VALKEY_URL: valkey.url, DATABASE_URL: postgres.url });
const pace = [options.trace, `--speed=${options.speed}`];
try {
  await sim(["calibrate", `--url=${edge.url}`, `--valkey-url=${valkey.url}`, `--database-url=${postgres.url}`, `--output=${model}`]);
  const settings = Object.entries(PATIENT).map(([name, value]) => `--set=${name}=${value}`);
  const limit = `--requests=${options.requests}`;
  const predictions = [];
  for (let seed = 1; seed <= Number(options.seeds); seed++) {
    const predicted = join(directory, `predicted-${seed}.json`);
    await sim(["replay", ...pace, ...settings, `--model=${model}`, limit, `--seed=${seed}`, "--json"], predicted);
    predictions.push(`--compare=${predicted}`);
  }
  await sim(["load", ...pace, `--url=${edge.url}`, limit, ...predictions]);
} finally {
  await edge.close();
  valkey.close();
  postgres.close();
  await near.close();
  await rm(directory, { recursive: true });
}
