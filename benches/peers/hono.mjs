// The Worker that one would otherwise write: Hono, lru-cache, ioredis and pg. Its connections
// are made for each request, and only when it needs them, because on Workers a socket belongs
// to the request that opened it.
//
// Knows routes and connections; what is asked in which order is in tiers.mjs.

import { Hono } from "hono";
import { Redis } from "ioredis";
import pg from "pg";
import { tiers } from "./tiers.mjs";

const JSON_HEADERS = { "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store" };

/** What one request may use, opened at its first use. */
class Stores {
  #env;
  #valkey;
  #postgres;
  #later = [];

  constructor(env) {
    this.#env = env;
  }

  valkey() {
    // One attempt, and no questions on the way: a request has no time for them.
    return (this.#valkey ??= new Redis(this.#env.VALKEY_URL.replace("valkey", "redis"), {
      enableReadyCheck: false,
      disableClientInfo: true,
      maxRetriesPerRequest: 0,
      retryStrategy: null,
    }).on("error", () => {}));
  }

  async query(statement, values) {
    if (!this.#postgres) {
      this.#postgres = new pg.Client({ connectionString: this.#env.DATABASE_URL });
      await this.#postgres.connect();
    }
    return (await this.#postgres.query(statement, values)).rows;
  }

  later(work) {
    this.#later.push(work);
  }

  get used() {
    return this.#valkey !== undefined || this.#postgres !== undefined;
  }

  async close() {
    await Promise.allSettled(this.#later);
    this.#valkey?.disconnect();
    await this.#postgres?.end();
  }
}

let shared;
const api = new Hono();

api.use(async (c, next) => {
  shared ??= tiers(c.env);
  const stores = new Stores(c.env);
  c.set("stores", stores);
  await next();
  if (stores.used) c.executionCtx.waitUntil(stores.close());
});
api.onError((error, c) => {
  console.error(error);
  return c.json({ error: "The stores are not available right now" }, 503, JSON_HEADERS);
});
api.notFound((c) => c.json({ error: "not found" }, 404, JSON_HEADERS));

const found = (c, text) => (text === undefined ? c.notFound() : c.body(text, 200, JSON_HEADERS));
const done = (c) => c.body('{"success":true}', 200, JSON_HEADERS);
const bad = (c, error) => c.json({ error }, 400, JSON_HEADERS);

/** The object of a request's body, or undefined. */
async function object(c) {
  try {
    const body = await c.req.json();
    return typeof body === "object" && body !== null ? body : undefined;
  } catch {
    return undefined;
  }
}

const VALKEY = "/api/vultr/valkey";
api.get(`${VALKEY}/session/:id`, async (c) => found(c, await shared.session(c.var.stores, c.req.param("id"))));
api.post(`${VALKEY}/session/:id`, async (c) => {
  const session = await object(c);
  if (!session) return bad(c, "the body is a session");
  await shared.keepSession(c.var.stores, c.req.param("id"), session);
  return done(c);
});
api.get(`${VALKEY}/cache/:key`, async (c) => found(c, await shared.cached(c.var.stores, c.req.param("key"))));
api.post(`${VALKEY}/cache/:key`, async (c) => {
  const body = await object(c);
  if (body?.value === undefined) return bad(c, "the body has a value");
  await shared.keepCached(c.var.stores, c.req.param("key"), body);
  return done(c);
});
api.post(`${VALKEY}/batch`, async (c) => {
  const body = await object(c);
  if (!Array.isArray(body?.operations)) return bad(c, "operations is an array");
  return found(c, await shared.batch(c.var.stores, body.operations));
});

const POSTGRES = "/api/vultr/postgres";
api.get(`${POSTGRES}/products`, async (c) => found(c, await shared.products(c.var.stores, c.req.query())));
api.get(`${POSTGRES}/users/:id/profile`, async (c) => found(c, await shared.profile(c.var.stores, c.req.param("id"))));

export default api;
