// The tables of a comparison, for a terminal and for the README, from the samples that
// side-by-side.mjs took. Knows what the numbers mean; measures nothing.
//
// Everything is a median over the runs. What stands beside it in brackets is how many times the
// edge's own it is: each run's number divided by that of the edge in the same run, the median of
// these, and the least and the greatest of them.

import { ANSWERING, ceilingsOf } from "./contestants.mjs";
import { BATCHED, SCENARIOS } from "./scenarios.mjs";

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];
const distinct = (list, of) => [...new Set(list.map(of))];
const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** `what` of one contestant and, run by run, as multiples of the edge's: { value, times, least, most }. */
function compared(samples, contestant, what) {
  const mine = samples.filter((sample) => sample.contestant === contestant);
  const times = mine.map((sample) => sample[what] / samples.find(({ contestant, run }) => contestant === "edge" && run === sample.run)[what]);
  return { value: median(mine.map((sample) => sample[what])), times: median(times), least: Math.min(...times), most: Math.max(...times) };
}

const spread = ({ times, least, most }) => (least === most ? `${number(times)} ×` : `${number(times)} × (${number(least)}–${number(most)})`);
const cell = (one, contestant) => `${number(one.value).padStart(7)}  ${(contestant === "edge" ? "" : spread(one)).padEnd(20)}`;

/** As many single calls as a batch has gets: the samples of the scenario with those, for one of the whole. */
function byCalls(load, { name, calls }) {
  if (!calls) return [];
  const singles = load.filter((sample) => sample.scenario === calls && sample.contestant === "hono" && sample.kind !== "open");
  return singles.map((sample) => ({ ...sample, scenario: name, contestant: `hono, ${BATCHED} calls`, per_s: sample.per_s / BATCHED, cpu_us: sample.cpu_us * BATCHED, p50_ms: NaN, p99_ms: NaN }));
}

const samplesOf = ({ load }, scenario) => [...load.filter(({ scenario: name }) => name === scenario.name), ...byCalls(load, scenario)];
const measured = ({ load }) => SCENARIOS.filter(({ name }) => load.some(({ scenario }) => scenario === name));

export function tables(result) {
  const { machine, runs } = result;
  const lines = [`${machine.cpus} × ${machine.cpu}, load average ${number(machine.load_average_before)} before; ${runs} alternating runs.`];
  lines.push("Medians; beside them how many times the edge's of the same run, median (least–greatest).");
  for (const scenario of measured(result)) {
    const samples = samplesOf(result, scenario);
    lines.push("", scenario.name.toUpperCase());
    lines.push(`${"".padEnd(16)}${"connections".padEnd(14)}${["requests/s", "CPU µs/request", "p50 ms", "p99 ms"].map((title) => title.padEnd(29)).join("")}`);
    for (const kind of distinct(samples, ({ kind }) => kind)) {
      const alike = samples.filter((sample) => sample.kind === kind);
      for (const contestant of distinct(alike, ({ contestant }) => contestant)) {
        const mine = alike.filter((sample) => sample.contestant === contestant);
        const cells = ["per_s", "cpu_us", "p50_ms", "p99_ms"].map((what) => (Number.isNaN(mine[0][what]) ? "" : cell(compared(alike, contestant, what), contestant)));
        const failed = mine.reduce((sum, sample) => sum + sample.failed, 0);
        const how = kind === "open" ? `${mine[0].rate}/s, open` : String(kind);
        lines.push(`${contestant.padEnd(16)}${how.padEnd(14)}${cells.join("")}${failed ? `${failed} failed` : ""}`.trimEnd());
      }
    }
  }
  if (result.distance.length > 0) {
    lines.push("", `STORES ${result.round_trip_ms} MS AWAY, ONE REQUEST AFTER THE OTHER`);
    lines.push(`${"".padEnd(28)}${"".padEnd(10)}${"p50 ms".padEnd(29)}${"p99 ms".padEnd(29)}connections and round trips for each request, Valkey and PostgreSQL`);
    for (const scenario of distinct(result.distance, ({ scenario }) => scenario)) {
      const samples = result.distance.filter((sample) => sample.scenario === scenario);
      for (const contestant of distinct(samples, ({ contestant }) => contestant)) {
        const mine = samples.filter((sample) => sample.contestant === contestant);
        lines.push(`${scenario.padEnd(28)}${contestant.padEnd(10)}${cell(compared(samples, contestant, "p50_ms"), contestant)}${cell(compared(samples, contestant, "p99_ms"), contestant)}${trips(mine)}`);
      }
    }
  }
  if (result.wasm) lines.push("", "THE WASM", ...weight(result.wasm));
  return lines.join("\n");
}

function trips(samples) {
  const of = (store, what) => number(median(samples.map((sample) => sample[store][what]))).replace(/\.00$/, "");
  return `${of("valkey", "connections")} and ${of("valkey", "round_trips")}, ${of("postgres", "connections")} and ${of("postgres", "round_trips")}`;
}

function weight({ bytes, gzip_bytes, script_gzip_bytes, instantiation, first_answer_ms, memory }) {
  const kib = (count) => `${(count / 1024).toFixed(0)} KiB`;
  const middle = (what) => `${number(median(instantiation.map((one) => one[what])))} ms`;
  return [
    `${kib(bytes)}, ${kib(gzip_bytes)} with gzip, and ${kib(script_gzip_bytes)} of JavaScript`,
    `compiled in ${middle("compile_ms")}, instantiated in ${middle("instantiate_ms")} (V8 of Node.js)`,
    `from the start of workerd to the first answer: ${number(median(first_answer_ms.edge))} ms, a bare Worker ${number(median(first_answer_ms.bare))} ms`,
    `resident memory of workerd, L1 of 64 MiB filled 0, 1, 2, … times: ${memory.resident_mib.map((mib) => mib.toFixed(0)).join(", ")} MiB`,
  ];
}

/** For the README: 16 connections, and the stores at a distance. */
export function markdown(result) {
  const { machine, date, runs, round_trip_ms, load, distance } = result;
  const others = ANSWERING.filter((name) => name !== "edge" && load.some(({ contestant }) => contestant === name));
  const row = (cells) => `| ${cells.join(" | ")} |`;
  const head = (cells) => [row(cells), row(cells.map(() => "---"))];

  const lines = [`${date.slice(0, 10)}, ${machine.cpus} × ${machine.cpu}, ${runs} runs.`, ""];
  lines.push(...head(["16 connections", "edge", ...others, "the platform"]));
  for (const scenario of measured(result)) {
    const samples = samplesOf(result, scenario).filter(({ kind }) => kind === 16);
    const times = (name) => ["per_s", "cpu_us"].map((what) => `${number(compared(samples, name, what).times)} ×`).join("; ");
    const own = `${number(compared(samples, "edge", "per_s").value)}/s; ${number(compared(samples, "edge", "cpu_us").value)} µs`;
    lines.push(row([scenario.name, own, ...others.map(times), ceilingsOf(scenario).map((name) => `${name}: ${times(name)}`).join("<br>")]));
  }

  const far = distinct(distance, ({ contestant }) => contestant);
  lines.push("", ...head([`stores ${round_trip_ms} ms away`, ...far]));
  for (const scenario of distinct(distance, ({ scenario }) => scenario)) {
    const samples = distance.filter((sample) => sample.scenario === scenario);
    const cells = far.map((name) => {
      const mine = samples.filter(({ contestant }) => contestant === name);
      const each = (what) => number(median(mine.map(({ valkey, postgres }) => valkey[what] + postgres[what]))).replace(/\.00$/, "");
      return `${number(median(mine.map(({ p50_ms }) => p50_ms)))} ms; ${each("connections")}, ${each("round_trips")}`;
    });
    lines.push(row([scenario, ...cells]));
  }
  return lines.join("\n");
}
