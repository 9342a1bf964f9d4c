// Changes that other programs make in PostgreSQL, with the triggers that note them and a watch that
// tells L2: how soon they are seen, that none is lost when a store is away meanwhile, and that no
// load that they overtake brings back what was there before. Copies are allowed an age here that no
// test lives to see, so only the watch can end them.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import pg from "pg";
import { SIM, native, stores, workerd } from "../edge.mjs";
import { faultProxy } from "../fault-proxy.mjs";
import { poll } from "../http/client.mjs";
import { answered, ask } from "../observe.mjs";

const PG = "/api/vultr/postgres";
const WITHIN_MS = 10_000;
const EVERY_MS = 100;
/** A day: the longest that a setting may ask for. */
const LONG_MS = String(24 * 60 * 60 * 1000);
const migrate = (database_url, ...options) => promisify(execFile)(SIM, ["migrate", ...options, "--database-url", database_url]);

/** With an L1 of its own the edge would answer for up to 5 s; what is looked at here is L2. */
const SETTINGS = { CHANGES_EVERY_MS: String(EVERY_MS), COPY_MAX_AGE_MS: LONG_MS, L1_MAX_AGE_MS: "0", BREAKER_FAILURES: "0" };

for (const [host, start] of [
  ["Wasm in workerd, a Cron Trigger", (settings) => workerd(settings, { cron: true })],
  ["native build", native],
]) {
  describe(`changes behind the edge: ${host}`, () => {
    let real, database, postgres, valkey, edge, watch;
    before(async () => {
      real = await stores();
      await migrate(real.settings.DATABASE_URL, "--changes");
      database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
      await database.connect();
      const [postgres_url, valkey_url] = [new URL(real.settings.DATABASE_URL), new URL(real.settings.VALKEY_URL)];
      postgres = await faultProxy(Number(postgres_url.port));
      valkey = await faultProxy(Number(valkey_url.port));
      postgres_url.port = postgres.port;
      valkey_url.port = valkey.port;
      edge = await start({ ...SETTINGS, DATABASE_URL: postgres_url.href, VALKEY_URL: valkey_url.href });
      // It goes on for a minute, or until the process ends.
      watch = edge.trigger?.().catch(() => {});
      await nothingLeft();
    });
    after(async () => {
      await edge?.close();
      await watch;
      postgres?.close();
      valkey?.close();
      await database?.end();
      await real?.close();
    });

    const get = (path) => ask(edge, path, { within_ms: WITHIN_MS });
    /** L2 was told of everything. */
    const nothingLeft = () =>
      poll("the outbox is empty", WITHIN_MS, async () => (await database.query("SELECT FROM shepherd_edge_changes")).rowCount === 0);
    /** Reads until L2 has it. */
    async function warm(path) {
      await nothingLeft();
      return poll(`a copy of ${path} in L2`, WITHIN_MS, async () => {
        const answer = await get(path);
        return answered(answer).tier === "L2" && answer;
      });
    }
    const user = (n) => `user-${String(n).padStart(3, "0")}`;
    const order_of = async (user_id) => {
      const json = { user_id, items: [{ product_id: "product-0001", quantity: 1, price: 1, size: "M" }], total_amount: 1 };
      return (await ask(edge, `${PG}/orders`, { method: "POST", json, within_ms: WITHIN_MS })).body.order_id;
    };

    const CASES = [
      ["a profile", async () => ({
        path: `${PG}/users/${user(1)}/profile`,
        change: ["UPDATE user_profiles SET first_name = 'Changed' WHERE user_id = $1", [user(1)]],
        shows: ({ body }) => body.first_name === "Changed",
      })],
      ["a profile that was not there", async () => ({
        path: `${PG}/users/late/profile`,
        change: ["INSERT INTO user_profiles (user_id, email) VALUES ('late', 'late@users.invalid')"],
        shows: ({ status }) => status === 200,
      })],
      ["a profile that goes away", async () => {
        await database.query("INSERT INTO user_profiles (user_id, email) VALUES ('leaves', 'leaves@users.invalid')");
        return { path: `${PG}/users/leaves/profile`, change: ["DELETE FROM user_profiles WHERE user_id = 'leaves'"], shows: ({ status }) => status === 404 };
      }],
      ["an order's status", async () => {
        const order = await order_of(user(2));
        return {
          path: `${PG}/users/${user(2)}/orders`,
          change: ["UPDATE orders SET status = 'shipped' WHERE order_id = $1", [order]],
          shows: ({ body }) => body.some(({ order_id, status }) => order_id === order && status === "shipped"),
        };
      }],
      ["an order that becomes another user's", async () => {
        const order = await order_of(user(3));
        return {
          path: `${PG}/users/${user(4)}/orders`,
          change: ["UPDATE orders SET user_id = $1 WHERE order_id = $2", [user(4), order]],
          shows: ({ body }) => body.some(({ order_id }) => order_id === order),
        };
      }],
      ["a user's returns", async () => returned(5, `${PG}/returns?userId=${user(5)}`)],
      ["every return", async () => returned(6, `${PG}/returns`)],
      ["products", async () => ({
        path: `${PG}/products?limit=5&maxPrice=1000`,
        change: ["UPDATE catalog SET stock = -7"],
        shows: ({ body }) => body.every(({ stock }) => stock === -7),
      })],
    ];
    async function returned(n, path) {
      const order = await order_of(user(n));
      return {
        path,
        change: ["INSERT INTO returns (return_id, order_id, product_id, user_id) VALUES ($1, $1, 'p', $2)", [order, user(n)]],
        shows: ({ body }) => body.some(({ return_id }) => return_id === order),
      };
    }
    for (const [name, prepare] of CASES) {
      test(`${name}: seen after a sweep`, async () => {
        const { path, change, shows } = await prepare();
        const [sql, values = []] = change;
        // An absence is remembered for 5 s at most, in any tier.
        const before_it = await (path.endsWith("late/profile") ? get(path) : warm(path));
        assert.ok(!shows(before_it), `shown before it was changed: ${before_it.text.slice(0, 200)}`);
        await database.query(sql, values);
        await nothingLeft();
        const answer = await get(path);
        assert.ok(shows(answer), `${answer.status} ${answer.text.slice(0, 300)} [${answer.headers.get("cache-status")}]`);
        // And a copy of it answers again.
        if (answer.status === 200) assert.ok(shows(await warm(path)));
      });
    }

    test("one statement for many rows is one note for each user, and one for all products", async () => {
      await nothingLeft();
      await valkey.refuse();
      try {
        await database.query("UPDATE catalog SET stock = 1");
        await database.query("UPDATE orders SET status = 'counted' WHERE user_id = $1 OR user_id = $2", [user(2), user(4)]);
        const { rows } = await database.query("SELECT kind, subject FROM shepherd_edge_changes ORDER BY kind, subject");
        assert.deepEqual(rows.map(({ kind, subject }) => [kind, subject]), [["orders", user(2)], ["orders", user(4)], ["products", ""]]);
      } finally {
        await valkey.heal();
      }
      await nothingLeft();
    });

    test("a change that is rolled back is none", async () => {
      await nothingLeft();
      await database.query("BEGIN");
      await database.query("UPDATE catalog SET stock = 2");
      assert.equal((await database.query("SELECT FROM shepherd_edge_changes")).rowCount, 1);
      await database.query("ROLLBACK");
      assert.equal((await database.query("SELECT FROM shepherd_edge_changes")).rowCount, 0);
    });

    test("another program needs no rights of its own for it", async () => {
      await database.query("CREATE ROLE payments LOGIN PASSWORD 'p'; GRANT UPDATE, SELECT ON orders TO payments");
      await database.query("SET ROLE payments");
      await database.query("UPDATE orders SET status = 'paid' WHERE user_id = $1", [user(2)]);
      await database.query("RESET ROLE");
      await nothingLeft();
      assert.ok((await get(`${PG}/users/${user(2)}/orders`)).body.every(({ status }) => status === "paid"));
    });

    test("an order that was placed while Valkey was away for good: its copies forget it when Valkey is back", async () => {
      const path = `${PG}/users/${user(7)}/orders`;
      await order_of(user(7));
      await warm(path);
      await valkey.refuse();
      let order;
      try {
        order = await order_of(user(7));
        // The edge's own invalidation could come later, too; the outbox alone is looked at.
        assert.ok((await database.query("SELECT FROM shepherd_edge_changes WHERE subject = $1", [user(7)])).rowCount > 0);
      } finally {
        await valkey.heal();
      }
      await nothingLeft();
      const answer = await get(path);
      assert.ok(answer.body.some(({ order_id }) => order_id === order), answer.text);
    });

    test("a load that a change overtakes fills nothing", async () => {
      const path = `${PG}/users/${user(8)}/profile`;
      await nothingLeft();
      // Another connection than the watch's: only this one asks for a profile.
      const held = postgres.hold("FROM user_profiles WHERE");
      const old = get(path);
      await held.reached;
      await database.query("UPDATE user_profiles SET first_name = 'Overtaken' WHERE user_id = $1", [user(8)]);
      await nothingLeft();
      held.release();
      assert.equal((await old).status, 200);
      const answer = await warm(path);
      assert.equal(answer.body.first_name, "Overtaken", `${answer.text} [${answer.headers.get("cache-status")}]`);
    });

    test("PostgreSQL and Valkey away for a moment: what was changed meanwhile is told", async () => {
      const path = `${PG}/products?limit=3`;
      await warm(path);
      await Promise.all([postgres.refuse(), valkey.refuse()]);
      await database.query("UPDATE catalog SET stock = 77");
      await Promise.all([postgres.heal(), valkey.heal()]);
      await nothingLeft();
      assert.ok((await get(path)).body.every(({ stock }) => stock === 77));
    });

    test("undone, the tables are as they were, and the log says what is missing", async () => {
      await database.query("DROP FUNCTION shepherd_edge_changed CASCADE");
      await database.query("DROP TABLE shepherd_edge_changes");
      await database.query("UPDATE catalog SET stock = 3");
      await poll("a line in the log", WITHIN_MS, async () => /a table is missing \(relation "shepherd_edge_changes" does not exist\)/.test(edge.log()));
      const { rows } = await database.query("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'shepherd%'");
      assert.deepEqual(rows, []);
    });
  });
}
