// Writes and shared loads when something goes away in the middle: the client that wrote, the
// client whose load others wait for, or the store that must forget its copies. Who was answered
// sees the write, who was refused loses no copy by it, and who waits for another is answered all
// the same. Outages as such are valkey.test.mjs and postgres.test.mjs, cuts are cuts.test.mjs.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { native, stores, workerd } from "../edge.mjs";
import { faultProxy } from "../fault-proxy.mjs";
import { poll } from "../http/client.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { answered, ask, unavailable } from "../observe.mjs";
import { random } from "../traffic.mjs";

const SEED = Number(process.env.SEED ?? Date.now() % 1e9);
const PG = "/api/vultr/postgres";
const VK = "/api/vultr/valkey";
/** About an answer at all, on a busy machine. */
const WITHIN_MS = 10_000;
/** The promise between isolates, and what a busy machine may add to it. */
const ELSEWHERE_MS = 5_000;
/** The same where Valkey cannot be told: its copies end by their age. */
const COPY_MS = 8_000;
const NOISE_MS = 1_000;
const RECOVERED_WITHIN_MS = 10_000;
/** How long a request may take that no store answers. */
const PROMISED_MS = 1_000;
const FOLLOWERS = 60;
/** One load makes two attempts; and one more load may have begun before the first one failed. */
const ATTEMPTS_MAX = 4;
const LEAVING = 150;
/** Some of them leave before the statement is sent, and some stay. */
const LEAVE_MS = 150;

/** States in which Valkey answers with the copies that it has, and cannot be told to forget one. */
const STUCK = {
  "has become a replica (READONLY)": {
    begin: (valkey) => valkey.send("REPLICAOF", "127.0.0.1", "1"),
    end: (valkey) => valkey.send("REPLICAOF", "NO", "ONE"),
  },
  "misses its replicas (NOREPLICAS)": {
    begin: (valkey) => valkey.send("CONFIG", "SET", "min-replicas-to-write", "1"),
    end: (valkey) => valkey.send("CONFIG", "SET", "min-replicas-to-write", "0"),
  },
  "is out of memory (OOM)": {
    begin: (valkey) => valkey.send("CONFIG", "SET", "maxmemory", "1"),
    end: (valkey) => valkey.send("CONFIG", "SET", "maxmemory", "0"),
  },
};

describe("something goes away in the middle", { concurrency: true }, () => {
  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, { concurrency: 1 }, () => {
      let real, postgres, valkey_proxy, edge, other, database, valkey, users;
      before(async () => {
        real = await stores();
        const [postgres_url, valkey_url] = [new URL(real.settings.DATABASE_URL), new URL(real.settings.VALKEY_URL)];
        postgres = await faultProxy(Number(postgres_url.port));
        valkey_proxy = await faultProxy(Number(valkey_url.port));
        postgres_url.port = postgres.port;
        valkey_url.port = valkey_proxy.port;
        const settings = { DATABASE_URL: postgres_url.href, VALKEY_URL: valkey_url.href, COPY_MAX_AGE_MS: String(COPY_MS) };
        [edge, other] = await Promise.all([start(settings), start(settings)]);
        valkey = await connectValkey(real.settings.VALKEY_URL);
        database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
        await database.connect();
        users = (await database.query("SELECT user_id FROM user_profiles ORDER BY user_id")).rows.map(({ user_id }) => user_id);
      });
      after(async () => {
        await Promise.all([edge?.close(), other?.close()]);
        postgres?.close();
        valkey_proxy?.close();
        valkey?.close();
        await database?.end();
        await real?.close();
      });

      const get = (path, of = edge) => ask(of, path, { within_ms: WITHIN_MS });
      const order = (user, word) => ({ user_id: user, items: [{ product_id: word, quantity: 1, price: 1, size: "M" }], total_amount: 1 });
      const place = (user, word) => ask(edge, `${PG}/orders`, { method: "POST", json: order(user, word), within_ms: WITHIN_MS });
      const shown = (answer) => `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)} [${answer.headers.get("cache-status")}]`;
      const ids = (answer) => answer.body.map(({ order_id }) => order_id);
      let lists = 0;
      const cold = () => `${PG}/products?minPrice=0.${String(++lists).padStart(6, "0")}1&limit=2`;
      const isThere = async () => {
        for (const of of [edge, other]) {
          await poll("the stores are asked again", RECOVERED_WITHIN_MS, async () => (await get(cold(), of)).status === 200);
          await poll("the stores are asked again", RECOVERED_WITHIN_MS, async () => (await get(`${VK}/cache/nowhere-${Math.random()}`, of)).status === 404);
        }
      };
      let next_user = 0;
      const someone = () => users[next_user++];
      /** A user whose orders both L2 and these edges have. */
      async function warmOrders(...edges) {
        const user = someone();
        const path = `${PG}/users/${user}/orders`;
        assert.equal((await place(user, "warm")).status, 200);
        await poll("a copy in L2", WITHIN_MS, async () => {
          await get(path);
          return (await valkey.scan(`shepherd-edge:*orders*${user}*`)).length > 0 && answered(await get(path, other)).tier !== "L3";
        });
        for (const of of edges) assert.equal((await get(path, of)).status, 200);
        return { user, path };
      }

      for (const [name, { begin, end }] of Object.entries(STUCK)) {
        test(`Valkey ${name} with a copy of the rows: who wrote reads the new ones at once, others when the copy has its age`, async () => {
          await isThere();
          const { user, path } = await warmOrders(edge, other);
          await begin(valkey);
          try {
            const placed = await place(user, "stuck");
            assert.equal(placed.status, 200, shown(placed));
            const acknowledged_ms = performance.now();
            const here = await get(path);
            assert.ok(ids(here).includes(placed.body.order_id), `the order is not there: ${shown(here)}`);
            while (performance.now() < acknowledged_ms + COPY_MS + NOISE_MS) {
              const again = await get(path);
              assert.ok(ids(again).includes(placed.body.order_id), `the order went away: ${shown(again)}`);
              await pause(200);
            }
            const elsewhere = await get(path, other);
            assert.ok(ids(elsewhere).includes(placed.body.order_id), `elsewhere the order is not there after ${Math.round(performance.now() - acknowledged_ms)} ms: ${shown(elsewhere)}`);
          } finally {
            await end(valkey);
          }
        });
      }

      for (const [name, fail] of [["refuses connections", () => postgres.refuse()], ["is silent", async () => postgres.fail(() => {})]]) {
        test(`PostgreSQL ${name}: a write that the breaker turns away takes no copy away`, async () => {
          await isThere();
          const { user, path } = await warmOrders(edge);
          const profile = `${PG}/users/${user}/profile`;
          assert.equal((await get(profile)).status, 200);
          await fail();
          try {
            // Until the breaker is open.
            for (let n = 0; n < 4; n++) unavailable(await get(cold()), { secrets: [] });
            unavailable(await place(user, "refused"), { secrets: [] });
            unavailable(await ask(edge, profile, { method: "POST", json: { preferences: { a: 1 } }, within_ms: WITHIN_MS }), { secrets: [] });
            for (const read of [path, profile]) {
              const answer = await get(read);
              assert.equal(answer.status, 200, shown(answer));
            }
          } finally {
            await postgres.heal();
          }
        });
      }

      /** A request that can be left, as it was sent. */
      function leaving(path, { method = "GET", json } = {}) {
        const control = new AbortController();
        const headers = json ? { "Content-Type": "application/json" } : {};
        const gone = fetch(edge.url + path, { method, headers, body: json && JSON.stringify(json), signal: control.signal }).then(
          async (response) => ({ status: response.status, body: await response.json().catch(() => undefined) }),
          () => undefined,
        );
        return { leave: () => control.abort(), gone };
      }

      const LEADERS = [
        ["rows", () => postgres, () => ({ path: cold(), word: "FROM catalog", count: () => postgres.said("FROM catalog") })],
        ["a value", () => valkey_proxy, async () => {
          const key = `led-${++lists}`;
          await valkey.send("SET", key, '"v"');
          return { path: `${VK}/cache/${key}`, word: key, count: () => valkey_proxy.said(`GET\r\n$${key.length}\r\n${key}\r\n`) };
        }],
      ];
      for (const [name, store, make] of LEADERS) {
        test(`the client whose load of ${name} others wait for goes away: they are answered`, async () => {
          await isThere();
          const proxy = store();
          const { path, word, count } = await make();
          proxy.forget();
          const held = proxy.hold(word);
          const leader = leaving(path);
          await held.reached;
          const followers = Array.from({ length: FOLLOWERS }, () => get(path));
          leader.leave();
          assert.equal(await leader.gone, undefined);
          held.release();
          for (const answer of await Promise.all(followers)) assert.equal(answer.status, 200, shown(answer));
          assert.ok(count() <= 2, `${count()} loads`);
        });

        test(`the connection on which ${name} that others wait for are loaded breaks: they are answered`, async () => {
          await isThere();
          const proxy = store();
          const { path, word } = await make();
          const held = proxy.hold(word);
          proxy.forget();
          const first = get(path);
          await held.reached;
          const followers = Array.from({ length: FOLLOWERS }, () => get(path));
          held.release();
          proxy.reset();
          for (const answer of await Promise.all([first, ...followers])) {
            if (answer.status !== 200) unavailable(answer, { secrets: [] });
          }
          assert.equal((await get(path)).status, 200);
          assert.ok(proxy.reached() <= ATTEMPTS_MAX + 1, `${proxy.reached()} connections`);
        });

        for (const [fault, fail] of [["resets connections", (peer) => peer.reset()], ["is silent", () => {}]]) {
          test(`${FOLLOWERS} requests for ${name} while the store ${fault} cost hardly more than one, and no more time`, async () => {
            await isThere();
            const proxy = store();
            const { path } = await make();
            proxy.fail(fail);
            proxy.forget();
            const answers = await Promise.all(Array.from({ length: FOLLOWERS }, () => get(path)));
            const reached = proxy.reached();
            await proxy.heal();
            for (const answer of answers) unavailable(answer, { secrets: [] });
            assert.ok(reached <= ATTEMPTS_MAX, `${reached} connections`);
            const slowest_ms = Math.max(...answers.map(({ took_ms }) => took_ms));
            assert.ok(slowest_ms <= PROMISED_MS + NOISE_MS, `the last answer came after ${Math.round(slowest_ms)} ms`);
          });
        }
      }

      test("a client that leaves in the middle of its body has written nothing", async () => {
        await isThere();
        const user = someone();
        const text = JSON.stringify(order(user, "half"));
        const { hostname, port } = new URL(edge.url);
        postgres.forget();
        for (let at = 0; at < text.length; at += 7) {
          const socket = net.connect(port, hostname);
          socket.on("error", () => {});
          await once(socket, "connect");
          socket.write(`POST ${PG}/orders HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text.slice(0, at)}`);
          await pause(5);
          socket.destroy();
        }
        await isThere();
        assert.equal(postgres.said("INSERT INTO orders"), 0);
        const { rows } = await database.query("SELECT FROM orders WHERE items->0->>'product_id' = 'half'");
        assert.equal(rows.length, 0);
      });

      test("clients that leave while their order is placed: each is there once or not, and readers see which", async (context) => {
        context.diagnostic(`seed ${SEED}`);
        const dice = random(SEED);
        await isThere();
        const mine = Array.from({ length: 5 }, someone);
        let left = 0;
        for (let n = 0; n < LEAVING; n += 10) {
          await Promise.all(Array.from({ length: 10 }, async (_, m) => {
            const user = mine[(n + m) % mine.length];
            const request = leaving(`${PG}/orders`, { method: "POST", json: order(user, `left-${n + m}`) });
            // Somebody reads meanwhile, and would keep what is there before the commit.
            const reading = get(`${PG}/users/${user}/orders`);
            await pause(dice() * LEAVE_MS);
            request.leave();
            const answer = await request.gone;
            if (answer === undefined) left += 1;
            // A busy machine logs in to PostgreSQL more slowly than so many may wait.
            else assert.ok([200, 503, 504].includes(answer.status), JSON.stringify(answer));
            await reading;
          }));
        }
        context.diagnostic(`${left} of ${LEAVING} left`);
        assert.ok(left > 0, "nobody left");
        await poll("nothing is under way", WITHIN_MS, async () => {
          const { rows } = await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'shepherd-edge' AND state <> 'idle'");
          return rows[0].count === 0;
        });
        await pause(ELSEWHERE_MS + NOISE_MS);
        await isThere();
        const { rows } = await database.query("SELECT items->0->>'product_id' AS word, count(*)::int FROM orders WHERE items->0->>'product_id' LIKE 'left-%' GROUP BY 1");
        for (const { word, count } of rows) assert.equal(count, 1, `${word} is there ${count} times`);
        for (const user of mine) {
          const stored = (await database.query("SELECT order_id FROM orders WHERE user_id = $1 ORDER BY created_at DESC, order_id DESC LIMIT 50", [user])).rows.map(({ order_id }) => order_id);
          for (const of of [edge, other]) {
            const answer = await get(`${PG}/users/${user}/orders`, of);
            assert.deepEqual(ids(answer), stored, shown(answer).slice(-200));
          }
        }
      });
    });
  }
});
