// An outage of Valkey is not a miss: what PostgreSQL can serve is served, what only Valkey knows
// is answered with a copy that says that it is stale, or with 503 or 504, and never with a 404;
// and when Valkey is back, so is everything, in the same isolate. The real Valkey is brought into
// each state that it can be brought into, otherwise a proxy stands in the way. What it says when
// it is broken is hostile/valkey.test.mjs' business.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { freePort, native, stores, workerd } from "../edge.mjs";
import { OUTAGES, faultProxy, passing } from "../fault-proxy.mjs";
import { poll } from "../http/client.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { answered, ask, unavailable } from "../observe.mjs";

const VK = "/api/vultr/valkey";
const PG = "/api/vultr/postgres";
/** The promise is 1 s; machines are noisy. */
const WITHIN_MS = 2_500;
/** More than usual: PostgreSQL is well here, and a busy machine is no fault. */
const POSTGRES_DEADLINE_MS = 2_000;
/** How long a breaker may stay open after the store is back, on a noisy machine. */
const RECOVERED_WITHIN_MS = 10_000;
/** Short, so that copies get stale soon; stale-if-error counts from there. */
const L1_MAX_AGE_MS = 1_200;
/** What may reach the store of this many requests while the breaker is open. */
const TURNED_AWAY = 200;
const REACH_MAX = 20;
/** Long before the edge no longer tries to tell Valkey of a write. */
const GIVEN_BACK_WITHIN_MS = 5_000;
/** A gateway keeps one for the next. */
const KEPT_MAX = 1;
/** At least for so long a copy may answer when Valkey cannot. */
const STALE_FOR_S = 30;

/**
 * The typed values: name, path, what is sent, what is read. `stale`: whether a copy may answer that
 * is older than L1_MAX_AGE_MS.
 */
const KINDS = [
  { name: "session", key: (id) => `session:${id}`, path: (id) => `${VK}/session/${id}`, sent: (id) => ({ userId: id, sessionId: id }), read: (id) => ({ userId: id, sessionId: id }), stale: true },
  { name: "conversation", key: (id) => `conversation:${id}`, path: (id) => `${VK}/cache/conversation/${id}`, sent: (id) => ({ context: { id } }), read: (id) => ({ context: { id } }), stale: true },
  { name: "recommendations", key: (id) => `recommendations:${id}`, path: (id) => `${VK}/cache/recommendations/${id}`, sent: (id) => ({ recommendations: [id] }), read: (id) => ({ recommendations: [id] }), stale: true },
  { name: "preferences", key: (id) => `preferences:${id}`, path: (id) => `${VK}/cache/preferences/${id}`, sent: (id) => ({ preferences: { id } }), read: (id) => ({ preferences: { id } }), stale: true },
  { name: "generic key", key: (id) => id, path: (id) => `${VK}/cache/${id}`, sent: (id) => ({ value: id }), read: (id) => ({ value: id }), stale: false },
];

/**
 * States of the real Valkey. `begin` and `end` get a client of it; `reads` says whether it still
 * answers reads.
 */
const STATES = {
  "knows another password": {
    begin: (valkey) => valkey.send("CONFIG", "SET", "requirepass", "another"),
    end: (valkey, { password }) => valkey.send("CONFIG", "SET", "requirepass", password),
  },
  "is out of memory (OOM)": {
    begin: (valkey) => valkey.send("CONFIG", "SET", "maxmemory", "1"),
    end: (valkey) => valkey.send("CONFIG", "SET", "maxmemory", "0"),
    reads: true,
  },
  "has become a replica (READONLY)": {
    begin: (valkey) => valkey.send("REPLICAOF", "127.0.0.1", "1"),
    end: (valkey) => valkey.send("REPLICAOF", "NO", "ONE"),
    reads: true,
  },
  "has become a replica that has lost its master (MASTERDOWN)": {
    begin: async (valkey) => {
      await valkey.send("CONFIG", "SET", "replica-serve-stale-data", "no");
      await valkey.send("REPLICAOF", "127.0.0.1", "1");
    },
    end: async (valkey) => {
      await valkey.send("REPLICAOF", "NO", "ONE");
      await valkey.send("CONFIG", "SET", "replica-serve-stale-data", "yes");
    },
  },
  "misses its replicas (NOREPLICAS)": {
    begin: (valkey) => valkey.send("CONFIG", "SET", "min-replicas-to-write", "1"),
    end: (valkey) => valkey.send("CONFIG", "SET", "min-replicas-to-write", "0"),
    reads: true,
  },
  "is full of clients": {
    // Its own connections count too, and those that are there stay.
    begin: (valkey) => valkey.send("CONFIG", "SET", "maxclients", "1"),
    end: (valkey) => valkey.send("CONFIG", "SET", "maxclients", "10000"),
  },
};

describe("Valkey gone", { concurrency: true }, () => {
  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, { concurrency: 1 }, () => {
      let real, proxy, edge, valkey, database, password, secrets;
      before(async () => {
        real = await stores();
        const url = new URL(real.settings.VALKEY_URL);
        password = url.password;
        proxy = await faultProxy(Number(url.port));
        url.port = proxy.port;
        secrets = [password, "127.0.0.1", String(proxy.port)];
        edge = await start({ ...real.settings, VALKEY_URL: url.href, L1_MAX_AGE_MS: String(L1_MAX_AGE_MS), COPY_MAX_AGE_MS: "30000", POSTGRES_DEADLINE_MS: String(POSTGRES_DEADLINE_MS) });
        valkey = await connectValkey(real.settings.VALKEY_URL);
        database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
        await database.connect();
      });
      after(async () => {
        await edge?.close();
        valkey?.close();
        await database?.end();
        proxy?.close();
        await real?.close();
      });

      const get = (path) => ask(edge, path, { within_ms: WITHIN_MS });
      const post = (path, json) => ask(edge, path, { method: "POST", json, within_ms: WITHIN_MS });
      const shown = (answer) => `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)}\n${edge.log().split("\n").slice(-5).join("\n")}`;
      const isRight = (answer, right) => {
        assert.equal(answer.status, 200, shown(answer));
        assert.deepEqual(answer.body, right, shown(answer));
      };
      /** A breaker that an earlier test left open is none of the next one's business. */
      const isThere = () =>
        poll("Valkey is asked again", RECOVERED_WITHIN_MS, async () => (await get(`${VK}/cache/never-there-${Math.random()}`)).status === 404);

      test("orders that Valkey cannot be told of give their connections to PostgreSQL back at once", async () => {
        await isThere();
        await proxy.refuse();
        try {
          for (let n = 0; n < 10; n++) {
            const answer = await post(`${PG}/orders`, { user_id: "user-009", items: [{ product_id: "p", quantity: 1, price: 1, size: "M" }], total_amount: 1 });
            assert.equal(answer.status, 200, shown(answer));
          }
          await poll("the edge has closed them", GIVEN_BACK_WITHIN_MS, async () => {
            const { rows } = await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'shepherd-edge'");
            return rows[0].count <= KEPT_MAX;
          });
        } finally {
          await proxy.heal();
        }
      });

      let outage = 0;
      /** The same story for each outage. */
      function story(name, { begin, end, reads = false, breaks = false }) {
        test(`Valkey ${name}`, async (context) => {
          const id = `fault-${outage++}`;
          const limit = 10 + outage;
          const user = `user-${String(outage).padStart(3, "0")}`;
          await isThere();
          for (const { key, sent } of KINDS) {
            // Behind the edge's back: these are in no L1.
            const stored = sent(`${id}-cold`);
            const text = JSON.stringify(key("").startsWith("conversation") ? stored : stored.recommendations ?? stored.preferences ?? stored.value ?? stored);
            await valkey.send("SET", key(`${id}-cold`), text);
          }
          // A slow store does what was refused as too slow: nobody reads this one.
          await valkey.send("SET", `session:${id}-touched`, "{}");
          for (const { path, sent, read } of KINDS) {
            assert.equal((await post(path(id), sent(id))).status, 200);
            isRight(await get(path(id)), read(id));
          }
          const read_by_ms = performance.now();
          try {
            await begin();
            // A connection that a gateway keeps would know nothing of it.
            proxy.reset();
            await context.test("what L1 has is right, fresh first, then stale where that may be, and says so", async () => {
              const began_ms = Date.now();
              for (const { name, path, read, stale } of KINDS) {
                await poll(`${name}: the end of the fresh copy`, 4 * L1_MAX_AGE_MS, async () => {
                  const age_ms = performance.now() - read_by_ms;
                  const answer = await get(path(id));
                  if (reads) return isRight(answer, read(id)) ?? true;
                  if (!stale && answer.status !== 200) return unavailable(answer, { secrets }) ?? true;
                  isRight(answer, read(id));
                  const { tier, ttl_s, is_stale } = answered(answer);
                  assert.equal(tier, "L1", answer.headers.get("cache-status"));
                  // A copy's time is drawn; up to the longest it may be called stale and answer.
                  if (!stale) assert.ok(age_ms <= L1_MAX_AGE_MS, `a ${name} of ${age_ms} ms: ${answer.headers.get("cache-status")}`);
                  // In the millisecond in which it ends its ttl is 0, and it is not fresh (RFC 9111, section 4.2).
                  assert.ok(is_stale ? ttl_s <= 0 : ttl_s >= 0, answer.headers.get("cache-status"));
                  return stale && is_stale;
                });
              }
              assert.ok(Date.now() - began_ms < STALE_FOR_S * 1000, "the machine is too slow to tell");
            });

            await context.test("rows are served, a cold list, a profile and a user's orders", async () => {
              const products = await get(`${PG}/products?limit=${limit}`);
              assert.equal(products.body?.length, limit, shown(products));
              const profile = await get(`${PG}/users/${user}/profile`);
              assert.equal(profile.body?.user_id, user, shown(profile));
              const orders = await get(`${PG}/users/${user}/orders`);
              assert.ok(Array.isArray(orders.body), shown(orders));
            });

            await context.test("an order is placed, and is there for the next reader", async () => {
              const placed = await post(`${PG}/orders`, { user_id: user, items: [{ product_id: id, quantity: 1, price: 1, size: "M" }], total_amount: 1 });
              assert.equal(placed.status, 200, shown(placed));
              const orders = await get(`${PG}/users/${user}/orders`);
              assert.ok(orders.body?.some(({ order_id }) => order_id === placed.body.order_id), shown(orders));
            });

            await context.test(reads ? "reads are served, also when they are cold" : "what only Valkey knows is not said to be missing", async () => {
              for (const { path, read } of KINDS) {
                const cold = await get(path(`${id}-cold`));
                const nowhere = await get(path(`${id}-nowhere`));
                if (reads) {
                  isRight(cold, read(`${id}-cold`));
                  assert.equal(nowhere.status, 404, shown(nowhere));
                } else {
                  unavailable(cold, { secrets });
                  unavailable(nowhere, { secrets });
                }
              }
            });

            await context.test("batches do not say that something is missing, or done", async () => {
              const operations = [{ type: "get", key: `${id}-cold` }, { type: "get", key: `${id}-nowhere` }, { type: "set", key: `${id}-set`, value: 1 }];
              const answer = await post(`${VK}/batch`, { operations });
              if (answer.status !== 200) return unavailable(answer, { secrets });
              const [cold, nowhere, set] = answer.body.results;
              if (reads) {
                assert.deepEqual(cold, { success: true, key: `${id}-cold`, value: `${id}-cold` });
                assert.deepEqual(nowhere, { success: true, key: `${id}-nowhere`, value: null });
              }
              for (const result of reads ? [set] : [cold, nowhere, set]) {
                assert.equal(result.success, false, shown(answer));
                assert.equal(typeof result.error, "string", shown(answer));
              }
            });

            await context.test("writes are refused", async () => {
              for (const { path, sent } of KINDS) unavailable(await post(path(`${id}-written`), sent(id)), { secrets });
              unavailable(await ask(edge, `${VK}/session/${id}-touched/touch`, { method: "POST", within_ms: WITHIN_MS }), { secrets });
            });

            await context.test("the health route says so", async () => {
              if (reads) return;
              const answer = await get(`${VK}/health`);
              assert.equal(answer.body?.status, "unhealthy", shown(answer));
            });

            if (breaks) {
              await context.test("the breaker is open: hardly any request reaches the store", async () => {
                proxy.forget();
                let retry_after = 0;
                for (let n = 0; n < TURNED_AWAY; n++) {
                  const answer = await get(`${VK}/cache/${id}-away-${n}`);
                  unavailable(answer, { secrets });
                  if (answer.headers.has("retry-after")) retry_after += 1;
                }
                const reached = proxy.reached();
                assert.ok(reached <= REACH_MAX, `${reached} of ${TURNED_AWAY} requests reached the store`);
                assert.ok(retry_after >= TURNED_AWAY - REACH_MAX, `${retry_after} of ${TURNED_AWAY} answers had Retry-After`);
              });
            }
          } finally {
            await end();
          }

          await context.test("it is back: reads, writes and fresh copies, in the same isolate", async () => {
            await isThere();
            for (const { key, path, sent, read } of KINDS) {
              isRight(await get(path(`${id}-cold`)), read(`${id}-cold`));
              const again = await poll("a copy that is not stale", RECOVERED_WITHIN_MS, async () => {
                const answer = await get(path(id));
                return answer.status === 200 && !answered(answer).is_stale && answer;
              });
              isRight(again, read(id));
              assert.equal((await post(path(`${id}-new`), sent(`${id}-new`))).status, 200);
              isRight(await get(path(`${id}-new`)), read(`${id}-new`));
              assert.ok(await valkey.send("EXISTS", key(`${id}-new`)));
              assert.equal((await get(path(`${id}-never`))).status, 404);
            }
            assert.equal((await get(`${VK}/health`)).body.status, "healthy");
            assert.ok(!edge.log().includes(password), "the log has the password");
            assert.deepEqual(proxy.failures, []);
          });
        });
      }

      for (const [name, begin] of Object.entries(OUTAGES)) {
        // What is refused cannot be counted.
        story(name, { begin: async () => begin(proxy), end: () => proxy.heal(), breaks: name !== "refuses connections" });
      }
      for (const [name, { begin, end, reads }] of Object.entries(STATES)) {
        story(name, { begin: () => begin(valkey), end: () => end(valkey, { password }), reads });
      }

      describe("Valkey is loading its data", () => {
        let loading, address, control, directory, child;
        before(async () => {
          // One of our own, because only it lets itself be told to load slowly.
          directory = await mkdtemp(join(tmpdir(), "shepherd-edge-loading-"));
          const port = await freePort();
          const words = ["--port", port, "--bind", "127.0.0.1", "--requirepass", password, "--save", "", "--dir", directory, "--enable-debug-command", "yes"];
          child = spawn(process.env.VALKEY_SERVER, words.map(String), { stdio: "ignore" });
          address = `valkey://:${password}@127.0.0.1:${port}`;
          control = await poll("Valkey starts", 10_000, () => connectValkey(address).catch(() => undefined));
          await control.send("DEBUG", "POPULATE", "4000");
          // In µs for each key, and how often it looks at its clients meanwhile, in bytes.
          await control.send("CONFIG", "SET", "key-load-delay", "2000", "loading-process-events-interval-bytes", "1024");
          loading = passing(port);
        });
        after(async () => {
          control?.close();
          if (child && child.exitCode === null) {
            child.kill("SIGKILL");
            await once(child, "exit");
          }
          await rm(directory, { recursive: true });
        });

        story("is loading its data (LOADING)", {
          begin: async () => {
            // Its answer comes when it has loaded, or never, when the connection is closed.
            const watcher = await connectValkey(address);
            control.send("DEBUG", "RELOAD").catch(() => {});
            proxy.fail(loading);
            await poll("it is loading", 10_000, () => watcher.send("GET", "x").then(() => false, (error) => /LOADING/.test(error.message))).finally(watcher.close);
          },
          end: () => proxy.heal(),
        });
      });

      test("a Valkey that is slow, but not too slow, is no outage", async () => {
        await isThere();
        await valkey.send("SET", "fault-slow", '"v"');
        proxy.fail({ each_ms: 30 });
        for (let n = 0; n < 5; n++) {
          isRight(await get(`${VK}/cache/fault-slow`), { value: "v" });
          assert.equal((await get(`${VK}/cache/fault-slow-nowhere-${n}`)).status, 404);
        }
        await proxy.heal();
      });

      test("a wrong password in the settings: rows are served, no key is said to be missing", async () => {
        const url = new URL(real.settings.VALKEY_URL);
        url.password = "wrong";
        const other = await start({ ...real.settings, VALKEY_URL: url.href });
        try {
          for (let n = 0; n < 5; n++) {
            const rows = await ask(other, `${PG}/products?limit=${n + 1}`, { within_ms: WITHIN_MS });
            assert.equal(rows.body?.length, n + 1, rows.text);
            unavailable(await ask(other, `${VK}/cache/fault-slow`, { within_ms: WITHIN_MS }), { secrets: ["wrong"] });
          }
        } finally {
          await other.close();
        }
      });

      test("a stale session ends with its TTL in Valkey, also during an outage", async () => {
        await isThere();
        const path = `${VK}/session/fault-short`;
        assert.equal((await post(path, { userId: "u", sessionId: "s", ttl: 4 })).status, 200);
        assert.equal((await get(path)).status, 200);
        proxy.fail((peer) => peer.reset());
        // Its own clock began before ours did.
        await pause(4_200);
        unavailable(await get(path), { secrets });
        await proxy.heal();
      });
    });
  }
});
