// Mixed traffic of which every right answer is known beforehand, with clients that leave in the
// middle: for tests that ask whether somebody got another's answer, or whether memory grows.
// Knows routes of the API and how to prepare their data; knows nothing of how they are served.

import assert from "node:assert/strict";
import http from "node:http";
import { connectValkey } from "./http/valkey.mjs";

const VK = "/api/vultr/valkey";
const PG = "/api/vultr/postgres";

/** Numbers from 0 up to, not including, 1, the same for the same seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Keys and rows that `prepare` makes: enough that copies of a few seconds' age are not all there is. */
const KEYS = 400;
const USERS = 150;
/** A value says whose it is, again and again, so that bytes of another show wherever they begin. */
const telling = (name, repeat) => `${name};`.repeat(repeat);
const keyed = (n) => telling(`key-${n}`, 1 + (n % 97) * 4);
const liked = (n) => telling(`user-${n}`, 1 + (n % 61) * 4);

/** Puts the data into the stores. `database` is a connected client of the package pg. */
export async function prepare(database, valkey_url) {
  const valkey = await connectValkey(valkey_url);
  for (let n = 0; n < KEYS; n++) await valkey.send("SET", `traffic-${n}`, JSON.stringify(keyed(n)));
  valkey.close();
  const users = Array.from({ length: USERS }, (_, n) => n);
  await database.query(
    `INSERT INTO user_profiles (user_id, email, preferences)
     SELECT 'traffic-' || n, n || '@traffic.invalid', jsonb_build_object('whose', whose) FROM unnest($1::int[], $2::text[]) AS given(n, whose)`,
    [users, users.map(liked)],
  );
}

/** Draws one request: { method, path, json, judge }, where `judge` fails when a body is not its answer. */
export function draw(dice) {
  const below = (count) => Math.floor(dice() * count);
  const kind = dice();
  if (kind < 0.4) {
    const n = below(KEYS);
    return { method: "GET", path: `${VK}/cache/traffic-${n}`, judge: (body) => assert.deepEqual(body, { value: keyed(n) }) };
  }
  if (kind < 0.65) {
    const n = below(USERS);
    const judge = (body) => {
      assert.equal(body.user_id, `traffic-${n}`);
      assert.deepEqual(body.preferences, { whose: liked(n) });
    };
    return { method: "GET", path: `${PG}/users/traffic-${n}/profile`, judge };
  }
  if (kind < 0.75) {
    const n = below(40) + 1;
    return { method: "GET", path: `${PG}/products?limit=${n}`, judge: (body) => assert.equal(body.length, n) };
  }
  if (kind < 0.85) {
    const chosen = Array.from({ length: 5 }, () => below(KEYS));
    const operations = chosen.map((n) => ({ type: "get", key: `traffic-${n}` }));
    const judge = (body) => assert.deepEqual(body.results, chosen.map((n) => ({ success: true, key: `traffic-${n}`, value: keyed(n) })));
    return { method: "POST", path: `${VK}/batch`, json: { operations }, judge };
  }
  if (kind < 0.97) {
    // Written anew with what it has: whoever is cut off changes nothing.
    const n = below(KEYS);
    return { method: "POST", path: `${VK}/cache/traffic-${n}`, json: { value: keyed(n) }, judge: (body) => assert.deepEqual(body, { success: true }) };
  }
  const n = below(USERS);
  return { method: "POST", path: `${PG}/users/traffic-${n}/profile`, json: { preferences: { whose: liked(n) } }, judge: (body) => assert.equal(body.user_id, `traffic-${n}`) };
}

/**
 * Sends it; after `leave_ms` the client goes away without a word. Gives { status, body }, or
 * undefined when it went away first.
 */
export function send(edge, agent, { method, path, json }, { leave_ms, within_ms }) {
  const { hostname, port } = new URL(edge.url);
  const text = json && JSON.stringify(json);
  const headers = text ? { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) } : {};
  return new Promise((resolve, reject) => {
    let left = false;
    const request = http.request({ hostname, port, method, path, headers, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", failed);
      response.on("end", () => {
        clearTimeout(timer);
        const text = Buffer.concat(parts).toString();
        try {
          resolve({ status: response.statusCode, text, body: JSON.parse(text) });
        } catch {
          resolve({ status: response.statusCode, text });
        }
      });
    });
    const failed = (error) => {
      clearTimeout(timer);
      if (left) resolve(undefined);
      else reject(error);
    };
    const leave = () => {
      left = leave_ms !== undefined;
      request.destroy(new Error(left ? "the client left" : `no answer within ${within_ms} ms`));
    };
    const timer = setTimeout(leave, leave_ms ?? within_ms);
    request.on("error", failed);
    request.end(text);
  });
}

/**
 * Sends on until `more()` says no, `at_once` at a time, of which the part `leaving` goes away after
 * up to `leave_ms`. Counts { requests, left, refused } and lists what was `wrong`.
 */
export async function traffic(edge, dice, { at_once, leaving, leave_ms, within_ms, more }) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: at_once });
  const counts = { requests: 0, left: 0, refused: 0, wrong: [] };
  const one = async () => {
    while (more(counts.requests)) {
      counts.requests += 1;
      const request = draw(dice);
      const leaves = dice() < leaving ? dice() * leave_ms : undefined;
      const what = `${request.method} ${request.path}`;
      try {
        const answer = await send(edge, agent, request, { leave_ms: leaves, within_ms });
        if (!answer) counts.left += 1;
        else if (answer.status === 503 || answer.status === 504) counts.refused += 1;
        else if (answer.status !== 200) counts.wrong.push(`${what} -> ${answer.status} ${answer.text.slice(0, 200)}`);
        else request.judge(answer.body);
      } catch (error) {
        counts.wrong.push(`${what}: ${String(error.message).slice(0, 300)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: at_once }, one));
  agent.destroy();
  return counts;
}
