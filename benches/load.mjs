// Load from oha, an existing generator, and what it cost the process that answered. Knows neither
// who that is nor why it is asked.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const TICKS_PER_S = 100; // USER_HZ, which is 100 on Linux wherever Node.js runs.
/** Enough that an open loop never waits for a free connection. */
const OPEN_CONNECTIONS = 128;

/** User and system time that a process has used, in µs (proc(5), fields 14 and 15). */
function cpuTime(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_S) * 1e6;
}

/**
 * Asks `it` for `paths` in random order, for `seconds` or `requests` times. A closed loop asks again
 * over each of the `connections` as soon as it was answered. An open loop asks `rate` times a second
 * whatever happens, and a latency counts from when the request was due.
 */
export async function load(it, { paths, json }, { connections, rate, seconds, requests }) {
  const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-load-"));
  const urls = join(directory, "urls");
  await writeFile(urls, paths.map((path) => `${it.url}${path}\n`).join(""));
  const words = ["--no-tui", "--output-format=json", "--worker-threads=1", "--wait-ongoing-requests-after-deadline", "--urls-from-file"];
  words.push(...(requests ? ["-n", requests] : ["-z", `${seconds * 1000}ms`]));
  words.push(...(rate ? ["-q", rate, "--latency-correction", "-c", OPEN_CONNECTIONS] : ["-c", connections]));
  if (json) words.push("-m", "POST", "-T", "application/json", "-d", JSON.stringify(json));
  try {
    const before_us = cpuTime(it.pid);
    const { stdout } = await run("oha", [...words, urls].map(String), { maxBuffer: 1 << 28 });
    const cpu_us = cpuTime(it.pid) - before_us;
    const { summary, latencyPercentiles, statusCodeDistribution, errorDistribution } = JSON.parse(stdout);
    const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
    const good = statusCodeDistribution[200] ?? 0;
    return {
      per_s: good / summary.total,
      p50_ms: latencyPercentiles.p50 * 1e3,
      p99_ms: latencyPercentiles.p99 * 1e3,
      cpu_us: cpu_us / good,
      failed: sum(statusCodeDistribution) - good + sum(errorDistribution),
      requests: good,
    };
  } finally {
    await rm(directory, { recursive: true });
  }
}
