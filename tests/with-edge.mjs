// Runs a command against an edge in front of real stores, all three started for it:
//   node tests/with-edge.mjs workerd|native COMMAND…
// The command finds them in EDGE_URL, DATABASE_URL and VALKEY_URL. Knows no test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import * as edges from "./edge.mjs";

const [host, command, ...words] = process.argv.slice(2);
const behind = await edges.stores();
try {
  // A busy machine is no fault.
  const edge = await edges[host]({ ...behind.settings, VALKEY_DEADLINE_MS: "5000", POSTGRES_DEADLINE_MS: "5000" });
  try {
    const child = spawn(command, words, { stdio: "inherit", env: { ...process.env, ...behind.settings, EDGE_URL: edge.url } });
    const [code] = await Promise.race([once(child, "exit"), once(child, "error").then(([error]) => Promise.reject(error))]);
    process.exitCode = code ?? 1;
    if (process.exitCode !== 0) console.error(`The log of the ${edge.name}:\n${edge.log()}`);
  } finally {
    await edge.close();
  }
} finally {
  await behind.close();
}
