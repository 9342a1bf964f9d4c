// A command: how many instructions the hot paths take, beside what they took when the reference
// was kept. Counted by Valgrind's callgrind, so that what else the machine does changes nothing.
//
//     node benches/instructions.mjs            optimised, as `make bench` prints it
//     node benches/instructions.mjs --check    the build of the tests, which `make test` has
//                                              already; fails where much more is counted
//     … --keep                                 makes the reference of that build anew
//
// A reference is one compiler's: another one makes other instructions of the same code, and there
// is nothing to hold them against. Knows nothing of what is counted: that is instructions.rs.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { ROOT } from "../tests/edge.mjs";

const REFERENCE = `${ROOT}benches/instructions.json`;
/** In the build of the tests, which is hardly optimised, a detour that costs nothing elsewhere is counted. */
const MORE_MAX = 1.1;
const BUILDS = { optimised: ["bench"], tests: ["test", "--workspace"] };

const { values: given } = parseArgs({ options: { check: { type: "boolean" }, keep: { type: "boolean" } } });
const run = promisify(execFile);
const output = async (program, ...words) => (await run(program, words, { cwd: ROOT, maxBuffer: 1 << 28 })).stdout;

/** A line that the summary of the tests counts as skipped. */
const skip = (why) => console.log(`ok 1 - instruction counts # SKIP ${why}`);

const compiler = (await output("rustc", "--version")).trim();
const references = JSON.parse(await readFile(REFERENCE, "utf8").catch(() => "{}"));
const build = given.check ? "tests" : "optimised";
const kept = references[build] ?? { compiler: "none", counts: {} };

if (!(await output("valgrind", "--version").catch(() => ""))) {
  skip("Valgrind is not there");
} else if (given.keep) {
  references[build] = { compiler, counts: await count() };
  await writeFile(REFERENCE, `${JSON.stringify(references, null, 2)}\n`);
} else if (kept.compiler !== compiler) {
  console.log(table(await count(), {}));
  skip(`the reference is of ${kept.compiler}, this is ${compiler}`);
} else {
  const counts = await count();
  console.log(table(counts, kept.counts));
  if (given.check) {
    const more = Object.keys(counts).filter((name) => !(counts[name] <= kept.counts[name] * MORE_MAX));
    for (const name of more) console.log(`not ok - ${name}: if that is right, node benches/instructions.mjs --check --keep`);
    console.log(`# pass ${Object.keys(counts).length - more.length}\n# fail ${more.length}`);
    process.exitCode = more.length > 0 ? 1 : 0;
  }
}

/** { name: instructions of each time } of the chosen build. */
async function count() {
  const built = await output("cargo", ...BUILDS[build], "--bench", "instructions", "--no-run", "--quiet", "--message-format=json");
  const artifacts = built.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const { executable } = artifacts.find(({ executable, target }) => executable && target.name === "instructions");
  const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-instructions-"));
  try {
    const file = join(directory, "counts");
    const options = ["--toggle-collect=instructions::counted", "--dump-after=instructions::case", "--combine-dumps=yes", `--callgrind-out-file=${file}`];
    const said = await output("valgrind", "--quiet", "--tool=callgrind", ...options, executable);
    const totals = [...(await readFile(file, "utf8")).matchAll(/^totals: (\d+)$/gm)].map(([, total]) => Number(total));
    const cases = said.trim().split("\n").map((line) => line.split("\t"));
    return Object.fromEntries(cases.map(([name, times], at) => [name, Math.round(totals[at] / times)]));
  } finally {
    await rm(directory, { recursive: true });
  }
}

function table(counts, reference) {
  const width = Math.max(...Object.keys(counts).map((name) => name.length));
  const beside = (name) => (reference[name] ? `${(counts[name] / reference[name]).toFixed(3)} × the reference` : "");
  const row = (name) => `${name.padEnd(width)}${String(counts[name]).padStart(10)} instructions  ${beside(name)}`.trimEnd();
  return Object.keys(counts).map(row).join("\n");
}
