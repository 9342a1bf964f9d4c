// What the edge and its peers must have in common before their speed is compared: status, shape
// and values on the routes that are measured, and that a write is seen by the next read.
//
// Asks over HTTP only and knows none of them from inside. What the edge does beyond this is
// judged in tests/.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { NOTHING_BETWEEN, stores } from "../../tests/edge.mjs";
import { ANSWERING, CONTESTANTS } from "../contestants.mjs";

const VALKEY = "/api/vultr/valkey";
const POSTGRES = "/api/vultr/postgres";

let behind, database;
before(async () => {
  behind = await stores();
  database = new pg.Client({ connectionString: behind.settings.DATABASE_URL });
  await database.connect();
});
after(async () => {
  await database.end();
  await behind.close();
});

for (const name of ANSWERING) {
  const start = CONTESTANTS[name];
  for (const [tiers, settings] of [["with all tiers", {}], ["with no copies", NOTHING_BETWEEN]]) {
    test(`${name}, ${tiers}`, async (t) => {
      const it = await start({ ...behind.settings, ...settings });
      t.after(() => it.close());
      const call = async (path, json) => {
        const request = json && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(json) };
        const response = await fetch(it.url + path, request);
        assert.match(response.headers.get("content-type"), /^application\/json; charset=utf-8$/i, path);
        assert.equal(response.headers.get("cache-control"), "no-store", path);
        return { status: response.status, body: await response.json() };
      };
      const ok = async (path, json) => {
        const { status, body } = await call(path, json);
        assert.equal(status, 200, `${path}: ${JSON.stringify(body)}\n${it.log()}`);
        return body;
      };
      /** Twice, because the second answer may come from another tier. */
      const reads = async (path, expected) => {
        assert.deepEqual(await ok(path), expected, path);
        assert.deepEqual(await ok(path), expected, `${path}, again`);
      };
      const id = `behaviour-${name}-${Math.random().toString(36).slice(2)}`;

      await t.test("a session", async () => {
        const path = `${VALKEY}/session/${id}`;
        const { status, body } = await call(path);
        assert.equal(status, 404);
        assert.equal(typeof body.error, "string");
        for (const turn of [1, 2]) {
          const session = { userId: "user-007", sessionId: id, turn, preferences: { style: "café ☕" } };
          assert.deepEqual(await ok(path, session), { success: true });
          await reads(path, session);
        }
      });

      await t.test("a key", async () => {
        const path = `${VALKEY}/cache/${id}`;
        assert.equal((await call(path)).status, 404);
        for (const value of [{ a: [1, 2.5, null] }, "text", 0, false, []]) {
          assert.deepEqual(await ok(path, { value, ttl: 60 }), { success: true });
          await reads(path, { value });
        }
      });

      await t.test("what is no JSON", async () => {
        const response = await fetch(`${it.url}${VALKEY}/session/${id}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{" });
        assert.equal(response.status, 400);
      });

      await t.test("products", async () => {
        // As PostgreSQL itself makes JSON of them.
        const { rows } = await database.query(
          `SELECT to_jsonb(catalog) AS row FROM catalog WHERE category = 'dresses' AND price BETWEEN 20 AND 100
           ORDER BY rating DESC, reviews_count DESC, id COLLATE "C" LIMIT 5`,
        );
        assert.equal(rows.length, 5);
        const products = await ok(`${POSTGRES}/products?category=dresses&minPrice=20&maxPrice=100&limit=5`);
        assert.deepEqual(products.map(timeless), rows.map(({ row }) => timeless(row)));
        assert.deepEqual(products.map(instants), rows.map(({ row }) => instants(row)));
        await reads(`${POSTGRES}/products?category=dresses&minPrice=20&maxPrice=100&limit=5`, products);
        await reads(`${POSTGRES}/products?brand=nobody`, []);
      });

      await t.test("a profile", async () => {
        const { rows } = await database.query("SELECT to_jsonb(user_profiles) AS row FROM user_profiles WHERE user_id = 'user-007'");
        const profile = await ok(`${POSTGRES}/users/user-007/profile`);
        assert.deepEqual(timeless(profile), timeless(rows[0].row));
        assert.deepEqual(instants(profile), instants(rows[0].row));
        await reads(`${POSTGRES}/users/user-007/profile`, profile);
        assert.equal((await call(`${POSTGRES}/users/nobody/profile`)).status, 404);
      });

      await t.test("a batch", async () => {
        const operations = [
          { type: "set", key: `${id}-a`, value: { one: 1 }, ttl: 60 },
          { type: "get", key: `${id}-a` },
          { type: "get", key: `${id}-b` },
          { type: "delete", key: `${id}-a` },
          { type: "get", key: `${id}-a` },
        ];
        const results = [
          { success: true, key: `${id}-a` },
          { success: true, key: `${id}-a`, value: { one: 1 } },
          { success: true, key: `${id}-b`, value: null },
          { success: true, key: `${id}-a` },
          { success: true, key: `${id}-a`, value: null },
        ];
        assert.deepEqual(await ok(`${VALKEY}/batch`, { operations }), { results });
        assert.equal((await call(`${VALKEY}/cache/${id}-a`)).status, 404);
        const gets = Array.from({ length: 50 }, (_, n) => ({ type: "get", key: `${id}-${n}` }));
        const all = await ok(`${VALKEY}/batch`, { operations: gets });
        assert.deepEqual(all.results, gets.map(({ key }) => ({ success: true, key, value: null })));
      });
    });
  }
}

const timeless = ({ created_at, updated_at, ...rest }) => rest;
/** In UTC, as the columns without zone mean it; an answer must say so with a Z. */
const instants = ({ created_at, updated_at }) => [created_at, updated_at].map((text) => Date.parse(text.endsWith("Z") ? text : `${text}Z`));
