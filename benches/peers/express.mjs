// The usual origin API: Express on Node.js, with ioredis and a pool of pg that live as long as
// the process. Listens on a port of its own choosing and says which on standard output.
//
// Knows routes and connections; what is asked in which order is in tiers.mjs.

import express from "express";
import { Redis } from "ioredis";
import pg from "pg";
import { tiers } from "./tiers.mjs";

const shared = tiers(process.env);
const redis = new Redis(process.env.VALKEY_URL.replace("valkey", "redis"), { enableAutoPipelining: true });
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
redis.on("error", (error) => console.error(error));
pool.on("error", (error) => console.error(error));
const stores = {
  valkey: () => redis,
  query: async (statement, values) => (await pool.query(statement, values)).rows,
  later: (work) => work.catch((error) => console.error(error)),
};

const api = express();
api.disable("x-powered-by");
api.use(express.json({ limit: "10mb" }));
api.use((request, response, next) => {
  response.set("Cache-Control", "no-store");
  next();
});

const missing = (response) => response.status(404).json({ error: "not found" });
const found = (response, text) => (text === undefined ? missing(response) : response.type("json").send(text));
const done = (response) => response.json({ success: true });
const bad = (response, error) => response.status(400).json({ error });

const VALKEY = "/api/vultr/valkey";
api.get(`${VALKEY}/session/:id`, async ({ params }, response) => found(response, await shared.session(stores, params.id)));
api.post(`${VALKEY}/session/:id`, async ({ params, body }, response) => {
  if (!body) return bad(response, "the body is a session");
  await shared.keepSession(stores, params.id, body);
  done(response);
});
api.get(`${VALKEY}/cache/:key`, async ({ params }, response) => found(response, await shared.cached(stores, params.key)));
api.post(`${VALKEY}/cache/:key`, async ({ params, body }, response) => {
  if (body?.value === undefined) return bad(response, "the body has a value");
  await shared.keepCached(stores, params.key, body);
  done(response);
});
api.post(`${VALKEY}/batch`, async ({ body }, response) => {
  if (!Array.isArray(body?.operations)) return bad(response, "operations is an array");
  found(response, await shared.batch(stores, body.operations));
});

const POSTGRES = "/api/vultr/postgres";
api.get(`${POSTGRES}/products`, async ({ query }, response) => found(response, await shared.products(stores, query)));
api.get(`${POSTGRES}/users/:id/profile`, async ({ params }, response) => found(response, await shared.profile(stores, params.id)));

api.use((request, response) => missing(response));
api.use((error, request, response, next) => {
  if (error.status === 400) return bad(response, "the body is not JSON");
  console.error(error);
  response.status(503).json({ error: "The stores are not available right now" });
});

const server = api.listen(0, "127.0.0.1", () => console.log(server.address().port));
