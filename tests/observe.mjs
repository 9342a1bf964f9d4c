// What tests with misbehaving stores look at: the answer, the limits of the edge, the memory of
// its process, and whether the isolate is still the same one. Knows the API's form of an error
// and two routes; starts nothing.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { ROOT } from "./edge.mjs";

/** The numbers of limits.rs by name. */
export const LIMITS = Object.fromEntries(
  [...readFileSync(`${ROOT}edge/src/limits.rs`, "utf8").matchAll(/^pub const (\w+): \w+ = ([\d_* ]+);$/gm)].map(([, name, product]) => [
    name,
    product.split("*").reduce((value, factor) => value * Number(factor.replaceAll("_", "")), 1),
  ]),
);

/** One request; gives { what, status, headers, text, body, took_ms } and fails when there is no answer in time. */
export async function ask(edge, path, { method = "GET", json, text = json && JSON.stringify(json), headers: others = {}, within_ms } = {}) {
  const what = `${method} ${path}`;
  const headers = text === undefined ? others : { "Content-Type": "application/json", ...others };
  const began = performance.now();
  const signal = AbortSignal.timeout(within_ms);
  let response, answer;
  try {
    response = await fetch(edge.url + path, { method, headers, body: text, signal });
    answer = await response.text();
  } catch (error) {
    assert.fail(`${what}: no answer within ${within_ms} ms: ${error.cause ?? error}\n${edge.log()}`);
  }
  let body;
  try {
    body = JSON.parse(answer);
  } catch {}
  return { what, status: response.status, headers: response.headers, text: answer, body, took_ms: performance.now() - began };
}

/**
 * Asks a store that is good again. With the short deadlines that make a hostile server's tests quick,
 * the real one may itself be too slow on a busy machine; then it is asked again, a few times.
 */
export async function askOnceGood(edge, path, options) {
  let answer;
  for (let tries = 0; tries < 5; tries++) {
    answer = await ask(edge, path, options);
    if (answer.status !== 504) break;
  }
  return answer;
}

/**
 * Who answered, read from Cache-Status (RFC 9211): { tier, ttl_s, is_stale }. L3 is no cache, and
 * answers when none of the others has a hit.
 */
export function answered({ what, headers }) {
  const line = headers.get("cache-status");
  assert.ok(line, `${what}: no Cache-Status`);
  const members = line.split(",").map((member) => member.split(";").map((part) => part.trim()));
  const [tier, ...parts] = members.find((parts) => parts.includes("hit")) ?? ["L3"];
  const ttl = parts.map((part) => /^ttl=(-?\d+)$/.exec(part)?.[1]).find((seconds) => seconds !== undefined);
  return { tier, ttl_s: ttl === undefined ? undefined : Number(ttl), is_stale: parts.includes("detail=stale-if-error") };
}

/** 503 or 504 (or just `status`) with one sentence that says nothing about the server. */
export function unavailable(answer, { status, secrets }) {
  const shown = `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)}`;
  assert.ok(status ? answer.status === status : answer.status === 503 || answer.status === 504, `expected ${status ?? "503 or 504"}: ${shown}`);
  assert.deepEqual(Object.keys(answer.body ?? {}), ["error"], shown);
  assert.match(answer.body.error, /^(PostgreSQL|Valkey) is (not available|too slow) right now; try again$/, shown);
  for (const secret of secrets) assert.ok(!answer.text.includes(secret), `${shown} gives away ${secret}`);
}

/** Requests that the isolate has counted: a new isolate begins anew. */
export async function counted(edge, within_ms) {
  const answer = await ask(edge, "/api/vultr/valkey/metrics", { within_ms });
  assert.equal(answer.status, 200);
  return answer.body.totalRequests;
}

/** A process' memory in MiB: now, and the most since `forgetPeak`. */
export function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const mebibytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) / 1024;
  return { now: mebibytes("VmRSS"), peak: mebibytes("VmHWM") };
}

/** Lets the peak begin at what is used now (proc(5), "clear_refs"). */
export const forgetPeak = (pid) => writeFileSync(`/proc/${pid}/clear_refs`, "5");
