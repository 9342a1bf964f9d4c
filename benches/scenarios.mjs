// What is asked in the comparison: requests, the settings that decide which tier answers them, and
// the data they need. Knows the API; does not know who answers, how fast, or how that is measured.

import assert from "node:assert/strict";
import { NOTHING_BETWEEN } from "../tests/edge.mjs";
import { connectValkey } from "../tests/http/valkey.mjs";

const VALKEY = "/api/vultr/valkey";
const POSTGRES = "/api/vultr/postgres";
const count = (length, one) => Array.from({ length }, (_, n) => one(n));

const KEYS = 100;
const USERS = 50; // Of the sample shop.
const CATEGORIES = ["dresses", "tops", "trousers", "outerwear", "shoes", "accessories"];

/** Nobody gives up under load; a slow answer shall count as one. */
const PATIENT = { VALKEY_DEADLINE_MS: "9000", POSTGRES_DEADLINE_MS: "9000", BREAKER_FAILURES: "0" };
const ALL_TIERS = PATIENT;
/** Copies of rows stay in Valkey for the whole run. */
const NO_L1 = { ...PATIENT, L1_MAX_AGE_MS: "0", COPY_MAX_AGE_MS: "3600000" };
const NO_COPIES = { ...PATIENT, ...NOTHING_BETWEEN };

const session = (n) => ({
  userId: `user-${n}`,
  sessionId: `bench-${n}`,
  createdAt: 1_750_000_000_000,
  lastAccessed: 1_750_000_000_000,
  conversationContext: { turns: count(8, (turn) => `what would go with the blue dress I saw, part ${turn}`) },
});
const sessions = count(KEYS, (n) => `${VALKEY}/session/bench-${n}`);
const keys = count(KEYS, (n) => `${VALKEY}/cache/bench-${n}`);
const products = CATEGORIES.flatMap((category) => count(10, (n) => `${POSTGRES}/products?category=${category}&maxPrice=${150 + n * 10}&limit=10`));
const profiles = count(USERS, (n) => `${POSTGRES}/users/user-${String(n).padStart(3, "0")}/profile`);
export const BATCHED = 50;

/** `is_l1`: what is asked was asked just before, and no store is. */
export const SCENARIOS = [
  { name: "session, from L1", paths: sessions, settings: ALL_TIERS, is_l1: true },
  { name: "products, from L1", paths: products, settings: ALL_TIERS, is_l1: true },
  { name: "products, from L2", paths: products, settings: NO_L1 },
  { name: "products, from L3", paths: products, settings: NO_COPIES },
  { name: "profile, from L3", paths: profiles, settings: NO_COPIES },
  { name: "key, from L2", paths: keys, settings: NO_L1 },
  { name: `batch of ${BATCHED} gets, from L2`, paths: [`${VALKEY}/batch`], json: { operations: count(BATCHED, (n) => ({ type: "get", key: `bench-${n}` })) }, settings: NO_L1, calls: "key, from L2" },
  { name: "session, written", paths: sessions, json: session(0), settings: ALL_TIERS },
];

/** Puts what is read into the stores. */
export async function prepare({ VALKEY_URL }) {
  const valkey = await connectValkey(VALKEY_URL);
  for (let n = 0; n < KEYS; n++) {
    await valkey.send("SET", `session:bench-${n}`, JSON.stringify(session(n)), "EX", "86400");
    await valkey.send("SET", `bench-${n}`, JSON.stringify({ of: `user-${n}`, likes: session(n).conversationContext.turns.slice(4) }));
  }
  valkey.close();
}

/** Asks for everything once, so that what can be kept is kept; gives the bytes of the middle answer. */
export async function warm(url, { paths, json }) {
  const bytes = [];
  for (const path of paths) {
    const response = await fetch(url + path, json && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(json) });
    const text = await response.text();
    assert.equal(response.status, 200, `${path}: ${text}`);
    bytes.push(text.length);
  }
  return bytes.sort((a, b) => a - b)[Math.floor(bytes.length / 2)];
}
