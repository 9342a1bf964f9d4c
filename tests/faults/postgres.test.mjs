// An outage of PostgreSQL is not a miss: what a cache has is answered, first as fresh, then as a
// stale copy that says so; all else is answered with 503 or 504 within a second; a write that was
// refused is refused clearly; and when PostgreSQL is back, so is everything, in the same isolate.
// The real PostgreSQL is brought into each state that it can be brought into, otherwise a proxy
// stands in the way. What it says when it is broken is hostile/postgres.test.mjs' business, and
// commits whose answer is cut off are cuts.test.mjs'.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { freePort, native, stores, workerd } from "../edge.mjs";
import { OUTAGES, faultProxy } from "../fault-proxy.mjs";
import { poll } from "../http/client.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { answered, ask, unavailable } from "../observe.mjs";

const VK = "/api/vultr/valkey";
const PG = "/api/vultr/postgres";
/** The promise is 1 s; machines are noisy. */
const WITHIN_MS = 2_500;
/** The deadline of a request that needs PostgreSQL: what the middle one of the slow answers keeps. */
const PROMISED_MS = 1_000;
/** How long a breaker may stay open after the store is back, on a noisy machine. */
const RECOVERED_WITHIN_MS = 10_000;
/** What may reach the store of this many requests while the breaker is open. */
const TURNED_AWAY = 200;
/** A probe makes two attempts. */
const REACH_MAX = 20;
/** Copies get stale soon. */
const MAX_AGE_S = 2;
const POLICY = `isolate-max-age=1, max-age=${MAX_AGE_S}, stale-if-error=60`;
const ROLE = "faults";
const TABLES = "catalog, user_profiles, orders, returns";

/**
 * States of the real PostgreSQL; `reads`: it still answers reads. `busy`: it is there, and nobody
 * is turned away.
 */
const STATES = {
  "has its tables locked": {
    begin: async ({ locker }) => {
      await locker.query("BEGIN");
      await locker.query(`LOCK TABLE ${TABLES} IN ACCESS EXCLUSIVE MODE`);
    },
    end: ({ locker }) => locker.query("ROLLBACK"),
    busy: true,
  },
  "knows another password": {
    begin: ({ database }) => database.query(`ALTER ROLE ${ROLE} PASSWORD 'another'`),
    end: ({ database, password }) => database.query(`ALTER ROLE ${ROLE} PASSWORD '${password}'`),
    breaks: true,
  },
  "is full of clients": {
    begin: ({ database }) => database.query(`ALTER ROLE ${ROLE} CONNECTION LIMIT 0`),
    end: ({ database }) => database.query(`ALTER ROLE ${ROLE} CONNECTION LIMIT -1`),
    breaks: true,
  },
  "lets nobody into the database": {
    begin: ({ outside, name }) => outside.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`),
    end: ({ outside, name }) => outside.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`),
    breaks: true,
  },
  "has become read-only": {
    begin: ({ database }) => database.query(`ALTER ROLE ${ROLE} SET default_transaction_read_only = on`),
    end: ({ database }) => database.query(`ALTER ROLE ${ROLE} RESET default_transaction_read_only`),
    reads: true,
  },
  "allows nothing any more": {
    begin: ({ database }) => database.query(`REVOKE pg_read_all_data, pg_write_all_data FROM ${ROLE}`),
    end: ({ database }) => database.query(`GRANT pg_read_all_data, pg_write_all_data TO ${ROLE}`),
  },
  "is frozen": {
    // The system takes connections for it, and nobody answers.
    begin: ({ pid }) => process.kill(pid, "SIGSTOP"),
    end: ({ pid }) => process.kill(pid, "SIGCONT"),
    breaks: true,
  },
};

describe("PostgreSQL gone", { concurrency: true }, () => {
  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, { concurrency: 1 }, () => {
      let real, proxy, edge, settings, database, locker, outside, valkey, password, secrets, name, users;
      before(async () => {
        real = await stores();
        const url = new URL(real.settings.DATABASE_URL);
        password = url.password;
        name = url.pathname.slice(1);
        const other_database = new URL("/postgres", url).href;
        [database, locker, outside] = await Promise.all([url.href, url.href, other_database].map(async (connectionString) => {
          const client = new pg.Client({ connectionString });
          await client.connect();
          return client;
        }));
        // Not the owner: what binds the edge must not bind the test.
        await database.query(`CREATE ROLE ${ROLE} LOGIN PASSWORD '${password}' IN ROLE pg_read_all_data, pg_write_all_data`);
        users = (await database.query("SELECT user_id FROM user_profiles ORDER BY user_id")).rows.map(({ user_id }) => user_id);
        proxy = await faultProxy(Number(url.port));
        url.port = proxy.port;
        url.username = ROLE;
        secrets = [password, "127.0.0.1", String(proxy.port), ROLE];
        settings = {
          ...real.settings,
          DATABASE_URL: url.href,
          ...Object.fromEntries(["PRODUCTS", "PROFILE", "ORDERS", "RETURNS"].map((kind) => [`POLICY_${kind}`, POLICY])),
        };
        edge = await start(settings);
        valkey = await connectValkey(real.settings.VALKEY_URL);
      });
      after(async () => {
        await edge?.close();
        valkey?.close();
        proxy?.close();
        await database?.end();
        await locker?.end();
        await outside?.end();
        await real?.close();
      });

      const get = (path, of = edge) => ask(of, path, { within_ms: WITHIN_MS });
      const post = (path, json, headers) => ask(edge, path, { method: "POST", json, headers, within_ms: WITHIN_MS });
      const shown = (answer) => `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)} [${answer.headers.get("cache-status")}]\n${edge.log().split("\n").slice(-5).join("\n")}`;
      let lists = 0;
      /** A list that nobody has asked for. */
      const cold = () => `${PG}/products?minPrice=0.${String(lists++).padStart(6, "0")}1&limit=2`;
      const isThere = () => poll("PostgreSQL is asked again", RECOVERED_WITHIN_MS, async () => (await get(cold())).status === 200);
      const rowsWith = async (word) => (await database.query("SELECT order_id FROM orders WHERE items->0->>'product_id' = $1", [word])).rows;
      const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

      let outage = 0;
      /** The same story for each outage. */
      function story(title, { begin, end, reads = false, breaks = false }) {
        test(`PostgreSQL ${title}`, async (context) => {
          const number = outage++;
          const user = users[number % users.length];
          const word = `fault-${number}`;
          await isThere();
          const warm = [`${PG}/products?limit=${number + 3}`, `${PG}/users/${user}/profile`, `${PG}/users/${user}/orders?limit=7`, `${PG}/returns?userId=${user}`];
          const right = new Map();
          for (const path of warm) {
            const answer = await get(path);
            assert.equal(answer.status, 200, shown(answer));
            right.set(path, answer.body);
          }
          await valkey.send("SET", word, '"v"');
          let elsewhere;
          await begin();
          // A connection that a gateway keeps would know nothing of it.
          proxy.reset();
          try {
            await context.test("what a cache has is right, fresh first, then stale, and says so", async () => {
              // An isolate that begins now has no L1.
              elsewhere = await start(settings);
              for (const [where, of] of [["here", edge], ["in another isolate", elsewhere]]) {
                for (const path of warm) {
                  await poll(`${path} ${where}: a stale copy`, WITHIN_MS + 4_000 * MAX_AGE_S, async () => {
                    const answer = await get(path, of);
                    assert.equal(answer.status, 200, `${where}: ${shown(answer)}`);
                    assert.deepEqual(answer.body, right.get(path), shown(answer));
                    const { tier, ttl_s, is_stale } = answered(answer);
                    if (reads) return true;
                    assert.ok(tier === "L1" || tier === "L2", shown(answer));
                    // 0 in the millisecond in which it ends (RFC 9111, section 4.2).
                    if (is_stale) assert.ok(ttl_s <= 0, shown(answer));
                    assert.ok(is_stale || Number(answer.headers.get("age")) <= MAX_AGE_S, shown(answer));
                    return is_stale;
                  });
                }
              }
            });

            const took_ms = [];
            await context.test(reads ? "cold reads are served" : "cold reads are not answered with nothing, and in time", async () => {
              const stranger = users[(number + 11) % users.length];
              for (const path of [cold(), cold(), `${PG}/users/${stranger}/orders?limit=${number + 11}`, `${PG}/users/nobody-${number}/profile`, `${PG}/returns?productId=nothing-${number}`]) {
                const answer = await get(path);
                took_ms.push(answer.took_ms);
                if (!reads) unavailable(answer, { secrets });
                else assert.equal(answer.status, path.includes("nobody") ? 404 : 200, shown(answer));
              }
              assert.ok(median(took_ms) <= PROMISED_MS + 250, `took ${took_ms.map(Math.round)} ms`);
            });

            await context.test("writes are refused, and not done", async () => {
              const order = { user_id: user, items: [{ product_id: word, quantity: 1, price: 1, size: "M" }], total_amount: 1 };
              const [placed, returned, saved] = await Promise.all([
                post(`${PG}/orders`, order),
                post(`${PG}/returns`, { order_id: "order-nowhere", user_id: user, product_id: word, reason: "size" }),
                post(`${PG}/users/${user}/profile`, { preferences: { word } }),
              ]);
              for (const answer of [placed, returned, saved]) unavailable(answer, { secrets });
            });

            await context.test("what Valkey knows is served", async () => {
              assert.deepEqual((await get(`${VK}/cache/${word}`)).body, { value: "v" });
              assert.equal((await post(`${VK}/session/${word}`, { userId: user })).status, 200);
              assert.equal((await get(`${VK}/cache/${word}-nowhere`)).status, 404);
            });

            await context.test("the health route says how it is", async () => {
              const answer = await get(`${PG}/health`);
              if (title === "has its tables locked" || title === "allows nothing any more" || reads) assert.equal(answer.status, 200, shown(answer));
              else assert.equal(answer.body?.status, "unhealthy", shown(answer));
            });

            if (breaks) {
              await context.test("the breaker is open: hardly any request reaches the store", async () => {
                proxy.forget();
                let retry_after = 0;
                for (let n = 0; n < TURNED_AWAY; n++) {
                  const answer = await get(cold());
                  unavailable(answer, { secrets });
                  if (answer.headers.has("retry-after")) retry_after += 1;
                }
                const reached = proxy.reached();
                assert.ok(reached <= REACH_MAX, `${reached} connections for ${TURNED_AWAY} requests`);
                assert.ok(retry_after >= TURNED_AWAY - REACH_MAX, `${retry_after} of ${TURNED_AWAY} answers had Retry-After`);
              });
            }
          } finally {
            await end();
            await elsewhere?.close();
          }

          await context.test("it is back: the same isolate reads and writes, and copies are fresh", async () => {
            await isThere();
            for (const path of warm) {
              const again = await poll("a copy that is not stale", RECOVERED_WITHIN_MS, async () => {
                const answer = await get(path);
                return answer.status === 200 && !answered(answer).is_stale && answer;
              });
              assert.ok(again.body, shown(again));
            }
            const placed = await post(`${PG}/orders`, { user_id: user, items: [{ product_id: `${word}-after`, quantity: 1, price: 1, size: "M" }], total_amount: 1 });
            assert.equal(placed.status, 200, shown(placed));
            const orders = await get(`${PG}/users/${user}/orders?limit=7`);
            assert.equal(orders.body?.[0]?.order_id, placed.body.order_id, shown(orders));
            const during = (await rowsWith(word)).length;
            assert.ok(during <= 1, `the order that was refused is stored ${during} times`);
            const { rows } = await database.query("SELECT preferences FROM user_profiles WHERE user_id = $1", [user]);
            const profile = await poll("the profile as it is stored", RECOVERED_WITHIN_MS, async () => {
              const answer = await get(`${PG}/users/${user}/profile`);
              return JSON.stringify(answer.body?.preferences) === JSON.stringify(rows[0].preferences) && answer;
            });
            assert.ok(profile);
            assert.equal((await get(`${PG}/health`)).body.status, "healthy");
            assert.ok(!edge.log().includes(password), "the log has the password");
            assert.deepEqual(proxy.failures, []);
          });
        });
      }

      for (const [title, begin] of Object.entries(OUTAGES)) {
        // What is refused cannot be counted.
        story(title, { begin: async () => begin(proxy), end: () => proxy.heal(), breaks: title !== "refuses connections" });
      }
      for (const [title, { begin, end, reads, breaks }] of Object.entries(STATES)) {
        const state = () => ({ database, locker, outside, password, name, pid: real.postgres_pid });
        story(title, { begin: async () => begin(state()), end: async () => end(state()), reads, breaks });
      }

      test("a locked table keeps nobody out of the others, and opens no breaker", async () => {
        await isThere();
        await locker.query("BEGIN");
        try {
          await locker.query("LOCK TABLE returns IN ACCESS EXCLUSIVE MODE");
          const locked = await Promise.all(Array.from({ length: 6 }, (_, n) => get(`${PG}/returns?productId=locked-${n}`)));
          for (const answer of locked) unavailable(answer, { status: 504, secrets });
          for (let n = 0; n < 3; n++) assert.equal((await get(cold())).status, 200);
        } finally {
          await locker.query("ROLLBACK");
        }
        // What was given up does not go on in the server.
        await poll("the edge has no connections", RECOVERED_WITHIN_MS, async () => {
          const { rows } = await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE usename = $1 AND state IS DISTINCT FROM 'idle'", [ROLE]);
          return rows[0].count === 0;
        });
      });

      test("a write that waits for a lock and is given up ends in at most one row, and its readers see which", async () => {
        await isThere();
        const user = users.at(-1);
        await locker.query("BEGIN");
        let placed;
        try {
          await locker.query("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE");
          placed = await post(`${PG}/orders`, { user_id: user, items: [{ product_id: "given-up", quantity: 1, price: 1, size: "M" }], total_amount: 1 }, { "Idempotency-Key": "given-up" });
          unavailable(placed, { status: 504, secrets });
        } finally {
          await locker.query("ROLLBACK");
        }
        const again = await post(`${PG}/orders`, { user_id: user, items: [{ product_id: "given-up", quantity: 1, price: 1, size: "M" }], total_amount: 1 }, { "Idempotency-Key": "given-up" });
        assert.equal(again.status, 200, shown(again));
        assert.deepEqual((await rowsWith("given-up")).map(({ order_id }) => order_id), [again.body.order_id]);
        const orders = await get(`${PG}/users/${user}/orders`);
        assert.equal(orders.body.filter(({ order_id }) => order_id === again.body.order_id).length, 1, shown(orders));
      });

      test("a wrong password in the settings: what Valkey knows is served, no row is said to be missing", async () => {
        const url = new URL(settings.DATABASE_URL);
        url.password = "wrong";
        const other = await start({ ...settings, DATABASE_URL: url.href });
        try {
          await valkey.send("SET", "fault-wrong", '"v"');
          for (let n = 0; n < 5; n++) {
            unavailable(await get(`${PG}/users/nobody-${n}/profile`, other), { secrets: ["wrong"] });
            assert.deepEqual((await get(`${VK}/cache/fault-wrong`, other)).body, { value: "v" });
          }
          assert.match(other.log(), /28P01/);
        } finally {
          await other.close();
        }
      });

      test("nobody listens where the settings say: the log says that it could not connect", async () => {
        const port = await freePort();
        const other = await start({ ...settings, DATABASE_URL: `postgres://a:b@127.0.0.1:${port}/c?sslmode=disable`, VALKEY_URL: `valkey://127.0.0.1:${port}` });
        try {
          unavailable(await get(`${PG}/products`, other), { status: 503, secrets: [String(port)] });
          unavailable(await get(`${VK}/cache/anything`, other), { status: 503, secrets: [String(port)] });
          for (const store of ["PostgreSQL", "Valkey"]) {
            const said = new RegExp(`${store} cannot be reached: .*(cannot connect|Connection refused)`);
            await poll(`${said} in the log`, RECOVERED_WITHIN_MS, async () => said.test(other.log()));
          }
        } finally {
          await other.close();
        }
      });
    });
  }
});
