// The second, independent client of the API, written from the contract alone.
//
// Part 1 calls the way the existing browser client does: plain concatenation, ids NOT
// percent-encoded, a content type only on POSTs with a body, 404 read as null.
// Part 2 is what the tests need on top: exact requests, raw requests, assertions, polling,
// and the stores behind the edge. Nothing here knows how the edge is built.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { connectValkey } from "./valkey.mjs";

export const EDGE_URL = (process.env.EDGE_URL ?? "http://127.0.0.1:8787").replace(/\/+$/, "");
export const DATABASE_URL = process.env.DATABASE_URL;
export const VALKEY_URL = process.env.VALKEY_URL;

const API = `${EDGE_URL}/api`;

// ---------------------------------------------------------------- 1. the browser client

const postJson = (url, value) => fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });

async function jsonOrThrow(response) {
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.json();
}

const jsonOrNull = async (response) => (response.ok ? response.json() : null);

async function checkHealth(url) {
  const started = Date.now();
  try {
    const health = await jsonOrThrow(await fetch(url));
    return { ...health, latency: Date.now() - started };
  } catch (error) {
    return { status: "unhealthy", error: error.message };
  }
}

/** The browser client's PostgreSQL half: getters give null for 404, everything else that fails throws. */
export const postgresClient = (base = `${API}/vultr/postgres`) => ({
  healthCheck: () => checkHealth(`${base}/health`),

  async getProducts(filters = {}) {
    const query = new URLSearchParams();
    for (const name of ["category", "brand", "minPrice", "maxPrice", "limit"]) {
      if (filters[name]) query.append(name, String(filters[name])); // falsy filters never leave the client
    }
    return jsonOrThrow(await fetch(`${base}/products?${query}`));
  },

  async getUserProfile(userId) {
    const response = await fetch(`${base}/users/${userId}/profile`);
    return response.status === 404 ? null : jsonOrThrow(response);
  },
  saveUserProfile: async (userId, profile) => jsonOrThrow(await postJson(`${base}/users/${userId}/profile`, profile)),
  getUserOrders: async (userId, limit = 50) => jsonOrThrow(await fetch(`${base}/users/${userId}/orders?limit=${limit}`)),
  createOrder: async (order) => jsonOrThrow(await postJson(`${base}/orders`, order)),

  async getReturns(userId, productId) {
    const query = new URLSearchParams();
    if (userId) query.append("userId", userId);
    if (productId) query.append("productId", productId);
    return jsonOrThrow(await fetch(`${base}/returns?${query}`));
  },
  createReturn: async (ret) => jsonOrThrow(await postJson(`${base}/returns`, ret)),
});

/** The browser client's Valkey half: getters give null and setters false whenever something fails. */
export function valkeyClient(base = `${API}/vultr/valkey`) {
  const store = async (path, value) => (await postJson(`${base}${path}`, value)).ok;
  const load = async (path) => jsonOrNull(await fetch(`${base}${path}`));
  const remove = async (path) => (await fetch(`${base}${path}`, { method: "DELETE" })).ok;
  return {
    healthCheck: () => checkHealth(`${base}/health`),

    setSession: (id, session) => store(`/session/${id}`, { ...session, lastAccessed: Date.now() }),
    getSession: (id) => load(`/session/${id}`),
    touchSession: async (id) => (await fetch(`${base}/session/${id}/touch`, { method: "POST" })).ok,
    deleteSession: (id) => remove(`/session/${id}`),

    setConversationContext: (userId, context, ttl) => store(`/cache/conversation/${userId}`, { context, ttl }),
    getConversationContext: async (userId) => (await load(`/cache/conversation/${userId}`))?.context ?? null,
    setRecommendations: (userId, recommendations, ttl) => store(`/cache/recommendations/${userId}`, { recommendations, ttl }),
    getRecommendations: async (userId) => (await load(`/cache/recommendations/${userId}`))?.recommendations ?? null,
    setPreferences: (userId, preferences, ttl) => store(`/cache/preferences/${userId}`, { preferences, ttl }),
    getPreferences: async (userId) => (await load(`/cache/preferences/${userId}`))?.preferences ?? null,

    set: (key, value, ttl) => store(`/cache/${key}`, { value, ttl }),
    get: async (key) => (await load(`/cache/${key}`))?.value ?? null,
    delete: (key) => remove(`/cache/${key}`),

    getMetrics: async () => (await load("/metrics")) ?? {},
    batch: async (operations) => (await jsonOrThrow(await postJson(`${base}/batch`, { operations }))).results,
  };
}

// ---------------------------------------------------------------- 2. exact requests

export const PG = "/api/vultr/postgres";
export const VK = "/api/vultr/valkey";

let count = 0;
/** An id no other test, run or process uses; contains nothing but lower-case letters, digits and `_`. */
export const uid = (label = "t") => `${label}_${Date.now().toString(36)}${(count++).toString(36)}_${randomBytes(6).toString("hex")}`;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const parsed = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/**
 * One request with fetch. `json` is stringified, `text` is sent as it is; both as application/json unless
 * `headers` say otherwise. Gives { what, status, headers, text, body } with `body` the parsed JSON.
 */
export async function call(method, path, { json, text, headers = {} } = {}) {
  const payload = json === undefined ? text : JSON.stringify(json);
  const typed = payload === undefined ? headers : { "Content-Type": "application/json", ...headers };
  const response = await fetch(`${EDGE_URL}${path}`, { method, headers: typed, body: payload, redirect: "manual" });
  const answer = await response.text();
  return { what: `${method} ${path.slice(0, 200)}`, status: response.status, headers: response.headers, text: answer, body: parsed(answer) };
}

export const get = (path, headers) => call("GET", path, { headers });
export const post = (path, json, headers) => call("POST", path, { json, headers });
export const postText = (path, text, headers) => call("POST", path, { text, headers });
export const del = (path, headers) => call("DELETE", path, { headers });

/**
 * One request with node:http: the target goes out byte for byte (no normalisation, no encoding), the
 * headers are exactly those given. `target` may hold bytes 0x80-0xff as Latin-1 characters.
 */
export function rawRequest(method, target, { headers = {}, body, chunked = false } = {}) {
  const { protocol, hostname, port } = new URL(EDGE_URL);
  const length = body === undefined || chunked ? {} : { "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = (protocol === "https:" ? https : http).request(
      { method, hostname: hostname.replace(/^\[|\]$/g, ""), port, path: target, headers: { ...length, ...headers }, agent: false },
      (response) => {
        const chunks = [];
        const finish = () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const all = new Headers(Object.entries(response.headers).map(([name, value]) => [name, String(value)]));
          resolve({ what: `${method} ${target.slice(0, 200)}`, status: response.statusCode, headers: all, text, body: parsed(text) });
        };
        response
          .on("data", (chunk) => chunks.push(chunk))
          .on("end", finish)
          .on("error", finish);
      },
    );
    // A server that refuses a body may break the connection while we still send: the answer counts, if there is one.
    request.on("error", (error) => setTimeout(reject, 1_000, error));
    request.end(body);
  });
}

// ---------------------------------------------------------------- assertions

const shown = (res) => `${res.what} -> ${res.status} ${res.text.slice(0, 300)}`;

/** 200 with JSON; gives the parsed body. */
export function ok(res) {
  assert.equal(res.status, 200, shown(res));
  assert.match(res.headers.get("content-type") ?? "", /^application\/json; ?charset=utf-8$/i, shown(res));
  assert.notEqual(res.body, undefined, `not JSON: ${shown(res)}`);
  return res.body;
}

/** As ok, but gives the whole answer, for tests of headers and text. */
export function okAnswer(res) {
  ok(res);
  return res;
}

/** An error of one of these statuses, as JSON `{"error": "<string>"}` and nothing else. */
export function refused(res, ...statuses) {
  assert.ok(statuses.includes(res.status), `expected ${statuses.join(" or ")}: ${shown(res)}`);
  assert.match(res.headers.get("content-type") ?? "", /^application\/json; ?charset=utf-8$/i, shown(res));
  assert.deepEqual(Object.keys(res.body ?? {}), ["error"], shown(res));
  assert.equal(typeof res.body.error, "string", shown(res));
  assert.notEqual(res.body.error, "", shown(res));
}

export const missing = (res) => refused(res, 404);

/** Whatever the answer, the edge must not blame itself for the input. */
export function not5xx(res) {
  assert.ok(res.status < 500, shown(res));
}

/** The tier that answered, read from Cache-Status (RFC 9211): "L1", "L2" or "L3". */
export function answeredBy(res) {
  const line = res.headers.get("cache-status");
  assert.ok(line, `no Cache-Status: ${shown(res)}`);
  const members = line.split(",").map((member) => member.split(";").map((part) => part.trim()));
  const tier = ([name]) => /L[123]/i.exec(name)?.[0].toUpperCase();
  const hit = members.find((member) => tier(member) && member.some((part) => part === "hit" || part === "hit=?1"));
  return hit ? tier(hit) : "L3";
}

export function ageOf(res) {
  const age = res.headers.get("age");
  assert.match(age ?? "", /^\d+$/, `Age is not whole seconds (${age}): ${shown(res)}`);
  return Number(age);
}

/** Repeats `look` until it gives something other than undefined or false; fails after `within_ms`. */
export async function poll(what, within_ms, look, pause_ms = 100) {
  for (const end = Date.now() + within_ms; ;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (Date.now() > end) assert.fail(`${what}: not within ${within_ms} ms`);
    await sleep(pause_ms);
  }
}

/** An instant as the contract wants it: ISO-8601 in UTC, ending in Z. Gives it in milliseconds. */
export function instant(text) {
  assert.match(String(text), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, `not ISO-8601 with Z: ${text}`);
  return Date.parse(text);
}

/** Asserts that an instant made by the server lies within two minutes of now. */
export function aboutNow(ms) {
  assert.ok(Math.abs(ms - Date.now()) < 120_000, `${new Date(ms).toISOString()} is not now`);
}

// ---------------------------------------------------------------- the stores behind the edge

const unset = (name) => `SKIPPED, NOT CHECKED: ${name} is not set, this test looks at the store behind the edge`;
export const needsPostgres = { skip: DATABASE_URL ? false : unset("DATABASE_URL") };
export const needsValkey = { skip: VALKEY_URL ? false : unset("VALKEY_URL") };
export const needsBoth = { skip: DATABASE_URL ? needsValkey.skip : needsPostgres.skip };

/** A pool of the npm package pg on DATABASE_URL, or undefined when that is not set. */
export async function openPostgres() {
  if (!DATABASE_URL) return undefined;
  const { default: pg } = await import("pg");
  return new pg.Pool({ connectionString: DATABASE_URL, max: 4 });
}

/** A connection to VALKEY_URL, or undefined when that is not set. */
export const openValkey = async () => (VALKEY_URL ? connectValkey(VALKEY_URL) : undefined);
