// What the Wasm of the edge weighs: bytes, time until it can answer, memory with a full L1.
// Knows the built files and that a session that was written is kept in L1; measures no speed.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { ROOT } from "../tests/edge.mjs";
import { memory } from "../tests/observe.mjs";

const WASM = `${ROOT}edge/build/index_bg.wasm`;
const L1_BYTES = 64 * 1024 * 1024; // The most that can be set.
const BODY_BYTES = 16 * 1024;
const FILLS = 12;

export function size() {
  const bytes = readFileSync(WASM);
  const script = readFileSync(`${ROOT}edge/build/index.js`);
  return { bytes: bytes.length, gzip_bytes: gzipSync(bytes, { level: 9 }).length, script_gzip_bytes: gzipSync(script, { level: 9 }).length };
}

/**
 * In V8, as Workers use it: compiling, and instantiating with imports that do nothing. In a process
 * of its own each time, because V8 remembers what it has compiled.
 */
export function instantiation() {
  const program = `
    const bytes = require("node:fs").readFileSync(${JSON.stringify(WASM)});
    const began = performance.now();
    const module = new WebAssembly.Module(bytes);
    const compiled = performance.now();
    const imports = {};
    for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
      if (kind !== "function" && kind !== "tag") throw new Error(name + " is a " + kind);
      (imports[from] ??= {})[name] = kind === "tag" ? new WebAssembly.Tag({ parameters: ["externref"] }) : () => {};
    }
    const ready = performance.now();
    new WebAssembly.Instance(module, imports);
    console.log(JSON.stringify({ compile_ms: compiled - began, instantiate_ms: performance.now() - ready }));`;
  return JSON.parse(execFileSync("node", ["-e", program], { encoding: "utf8" }));
}

/** Milliseconds from the start of the process to its first answer: in a comparison, what starting costs. */
export async function firstAnswer(start, settings) {
  const began = performance.now();
  const it = await start(settings);
  await (await fetch(`${it.url}/nothing-here`)).text();
  const took_ms = performance.now() - began;
  await it.close();
  return took_ms;
}

/** MiB of the whole process: after its first answers, and after L1 was filled once, twice, …. */
export async function memoryWithFullL1(start, settings) {
  const it = await start({ ...settings, L1_BYTES: String(L1_BYTES) });
  const body = JSON.stringify({ ttl: 60, text: "x".repeat(BODY_BYTES) });
  let written = 0;
  const write = async () => {
    const path = `/api/vultr/valkey/session/full-${written++}`;
    const response = await fetch(it.url + path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    await response.text();
  };
  for (let n = 0; n < 50; n++) await write();
  const resident_mib = [memory(it.pid).now];
  for (let fill = 1; fill <= FILLS; fill++) {
    const enough = (fill * L1_BYTES) / BODY_BYTES;
    await Promise.all(Array.from({ length: 16 }, async () => { while (written < enough) await write(); }));
    resident_mib.push(memory(it.pid).now);
  }
  const last = await fetch(`${it.url}/api/vultr/valkey/session/full-${written - 1}`);
  await last.text();
  await it.close();
  return { resident_mib, last: last.headers.get("cache-status") };
}
