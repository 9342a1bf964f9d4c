// A connection to a store is cut after its first byte, its second, and so on to the last, each
// way, while the Wasm in workerd answers. A read then gives the right rows or says that the store
// is not there; an order that was acknowledged is there once, one that was not is there at most
// once, and one that the client sends again with its Idempotency-Key is there exactly once.
// Servers that break off by themselves are hostile/*.test.mjs' business.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { cheapRole } from "../cheap-role.mjs";
import { NOTHING_BETWEEN, stores, workerd } from "../edge.mjs";
import { faultProxy, passing } from "../fault-proxy.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { ask, unavailable } from "../observe.mjs";

const VK = "/api/vultr/valkey";
const PG = "/api/vultr/postgres";
/** About an answer at all, on a busy machine. */
const WITHIN_MS = 20_000;
const AT_ONCE = 8;
/** Replies differ by some digits (times, process ids): so much further than the longest one seen. */
const LONGER_BYTES = 16;
const USER = "user-007";
const DIRECTIONS = ["client_bytes", "store_bytes"];
const WORDS = { client_bytes: "of the client", store_bytes: "of the store" };

describe("a connection that is cut after each byte", () => {
  let real, database, valkey, postgres_proxy, valkey_proxy, edge, secrets, profile;
  before(async () => {
    real = await stores();
    database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
    await database.connect();
    valkey = await connectValkey(real.settings.VALKEY_URL);
    const postgres_url = await cheapRole(database, real.settings.DATABASE_URL, "cuts");
    const valkey_url = new URL(real.settings.VALKEY_URL);
    postgres_proxy = await faultProxy(Number(postgres_url.port));
    valkey_proxy = await faultProxy(Number(valkey_url.port));
    postgres_url.port = postgres_proxy.port;
    valkey_url.port = valkey_proxy.port;
    secrets = [postgres_url.password];
    edge = await workerd({
      ...NOTHING_BETWEEN,
      DATABASE_URL: postgres_url.href,
      VALKEY_URL: valkey_url.href,
      // A busy machine is no fault.
      VALKEY_DEADLINE_MS: "10000",
      POSTGRES_DEADLINE_MS: "15000",
    });
    const answer = await get(`${PG}/users/${USER}/profile`);
    assert.equal(answer.status, 200, answer.text);
    profile = answer.body;
    await valkey.send("SET", "cuts", '"the value"');
  });
  after(async () => {
    await edge?.close();
    postgres_proxy?.close();
    valkey_proxy?.close();
    valkey?.close();
    await database?.end();
    await real?.close();
  });

  const get = (path) => ask(edge, path, { within_ms: WITHIN_MS });
  const order = (product, amount = 1) => ({ user_id: USER, items: [{ product_id: product, quantity: 1, price: 1, size: "M" }], total_amount: amount });
  const place = (product, headers) => ask(edge, `${PG}/orders`, { method: "POST", json: order(product), headers, within_ms: WITHIN_MS });
  const shown = (answer) => `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)}`;
  /** Ids of the orders that are stored, by product. */
  async function stored(prefix) {
    const { rows } = await database.query("SELECT order_id, items->0->>'product_id' AS product FROM orders WHERE items->0->>'product_id' LIKE $1", [`${prefix}%`]);
    return Map.groupBy(rows, ({ product }) => product);
  }

  /**
   * Cuts at each byte of one direction: the first `attempt` fixes the length of an exchange; then
   * each connection takes the next byte, by turns with a reset and an end, and `attempt(n)` is
   * repeated until all have been met. How often a connection was cut.
   */
  async function everywhere(proxy, direction, attempt) {
    await proxy.heal();
    proxy.forget();
    await attempt("whole");
    const length = proxy.lengths()[direction] + LONGER_BYTES;
    proxy.forget();
    let position = 0, cuts = 0;
    proxy.script = (peer) =>
      passing(proxy.target, () => {
        const at = position++ % (length + 1);
        // Only then does each byte meet both: the length may be even.
        const cut = (at + Math.floor(position / (length + 1))) % 2 ? "reset" : "end";
        cuts += 1;
        return { [direction]: at, cut };
      })(peer);
    let n = 0;
    const one = async () => {
      while (position <= length) await attempt(n++);
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, one));
    } finally {
      await proxy.heal();
    }
    assert.ok(cuts > length);
    assert.deepEqual(proxy.failures, []);
    return length;
  }

  for (const direction of DIRECTIONS) {
    test(`a row read, bytes ${WORDS[direction]}: the row, or no answer`, async (context) => {
      let right = 0, count = 0;
      const users = (await database.query("SELECT user_id FROM user_profiles LIMIT 40")).rows.map(({ user_id }) => user_id);
      assert.ok(users.length > AT_ONCE);
      const length = await everywhere(postgres_proxy, direction, async () => {
        // Each its own: requests for one thing would share one load.
        const user = users[count++ % users.length];
        const answer = await get(`${PG}/users/${user}/profile`);
        if (answer.status !== 200) return unavailable(answer, { secrets });
        assert.equal(answer.body.user_id, user, shown(answer));
        right += 1;
      });
      context.diagnostic(`${count} reads, cuts at 0 to ${length} bytes, ${right} right answers`);
      assert.deepEqual((await get(`${PG}/users/${USER}/profile`)).body, profile);
    });

    test(`a read of Valkey, bytes ${WORDS[direction]}: the value, or no answer`, async (context) => {
      let right = 0, count = 0;
      const keys = Array.from({ length: 50 }, (_, n) => `cuts-${n}`);
      for (const key of keys) await valkey.send("SET", key, JSON.stringify(key));
      const length = await everywhere(valkey_proxy, direction, async () => {
        const key = keys[count++ % keys.length];
        const answer = await get(`${VK}/cache/${key}`);
        if (answer.status !== 200) return unavailable(answer, { secrets });
        assert.deepEqual(answer.body, { value: key });
        right += 1;
      });
      context.diagnostic(`${count} reads, cuts at 0 to ${length} bytes, ${right} right answers`);
      assert.deepEqual((await get(`${VK}/cache/cuts`)).body, { value: "the value" });
    });

    test(`an order while Valkey is cut off, bytes ${WORDS[direction]}: it is placed, once`, async () => {
      const prefix = `cut-valkey-${direction}-`;
      const ids = new Map();
      await everywhere(valkey_proxy, direction, async (n) => {
        const answer = await place(`${prefix}${n}`);
        assert.equal(answer.status, 200, shown(answer));
        ids.set(`${prefix}${n}`, answer.body.order_id);
      });
      const rows = await stored(prefix);
      assert.equal(rows.size, ids.size);
      for (const [product, id] of ids) assert.deepEqual(rows.get(product)?.map(({ order_id }) => order_id), [id], product);
    });

    test(`an order, bytes ${WORDS[direction]}: once if acknowledged, at most once if not, exactly once if sent again with its key`, async (context) => {
      const prefix = `cut-${direction}-`;
      const answers = new Map();
      let count = 0;
      const length = await everywhere(postgres_proxy, direction, async (n) => {
        const product = `${prefix}${n}`;
        // By turns without and with a key.
        const headers = count++ % 2 ? { "Idempotency-Key": product } : {};
        const answer = await place(product, headers);
        answers.set(product, { answer, headers });
        if (answer.status !== 200) unavailable(answer, { secrets });
      });
      // What was not acknowledged may still be on its way to its end.
      await quiet();
      let rows = await stored(prefix);
      let acknowledged = 0, unacknowledged = 0;
      for (const [product, { answer }] of answers) {
        const ids = (rows.get(product) ?? []).map(({ order_id }) => order_id);
        if (answer.status === 200) {
          acknowledged += 1;
          assert.deepEqual(ids, [answer.body.order_id], `${product}: ${shown(answer)}`);
        } else {
          unacknowledged += ids.length;
          assert.ok(ids.length <= 1, `${product} is stored ${ids.length} times: ${shown(answer)}`);
        }
      }
      context.diagnostic(`${answers.size} orders, cuts at 0 to ${length} bytes: ${acknowledged} acknowledged, ${unacknowledged} stored without a word`);
      assert.ok(direction === "client_bytes" || unacknowledged > 0, "no commit was ambiguous, so nothing was tried");

      const again = [...answers].filter(([, { headers }]) => headers["Idempotency-Key"]);
      await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let next; (next = again.pop());) {
          const [product, { answer, headers }] = next;
          const retried = await place(product, headers);
          assert.equal(retried.status, 200, shown(retried));
          if (answer.status === 200) assert.equal(retried.body.order_id, answer.body.order_id);
          answers.set(product, { answer: retried, headers });
        }
      }));
      rows = await stored(prefix);
      for (const [product, { answer, headers }] of answers) {
        if (!headers["Idempotency-Key"]) continue;
        assert.deepEqual(rows.get(product)?.map(({ order_id }) => order_id), [answer.body.order_id], product);
      }
    });
  }

  /** No backend of the edge works any more. */
  async function quiet() {
    for (const began = performance.now(); ;) {
      const { rows } = await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'cuts' AND state IS DISTINCT FROM 'idle'");
      if (rows[0].count === 0) return;
      assert.ok(performance.now() - began < WITHIN_MS, `${rows[0].count} backends are still there`);
    }
  }

  describe("Idempotency-Key", () => {
    const ORDERS = { path: `${PG}/orders`, id: "order_id", content: (user, word) => ({ ...order(word), user_id: user }) };
    let returned;
    before(async () => void (returned = (await place("to-be-returned")).body.order_id));
    const RETURNS = { path: `${PG}/returns`, id: "return_id", content: (user, word) => ({ order_id: returned, user_id: user, product_id: word, reason: "size" }) };

    for (const [name, { path, id, content }] of [["orders", ORDERS], ["returns", RETURNS]]) {
      const send = (key, json) => ask(edge, path, { method: "POST", json, headers: { "Idempotency-Key": key }, within_ms: WITHIN_MS });

      test(`${name}: the same twice gives the same row`, async () => {
        const first = await send("twice", content(USER, "a"));
        const second = await send("twice", content(USER, "a"));
        assert.equal(first.status, 200, shown(first));
        assert.equal(second.status, 200, shown(second));
        assert.deepEqual(second.body, first.body);
      });

      test(`${name}: twenty at once are one row`, async () => {
        const answers = await Promise.all(Array.from({ length: 20 }, () => send("at once", content(USER, "at-once"))));
        for (const answer of answers) assert.equal(answer.status, 200, shown(answer));
        assert.equal(new Set(answers.map(({ body }) => body[id])).size, 1);
        const { rows } = await database.query(`SELECT count(*)::int FROM ${name} WHERE ${id} = $1`, [answers[0].body[id]]);
        assert.equal(rows[0].count, 1);
      });

      test(`${name}: another content is refused, and changes nothing`, async () => {
        const first = await send("content", content(USER, "a"));
        const other = await send("content", content(USER, "b"));
        assert.equal(other.status, 422, shown(other));
        assert.deepEqual(Object.keys(other.body), ["error"]);
        assert.deepEqual((await send("content", content(USER, "a"))).body, first.body);
      });

      test(`${name}: users with the same key do not meet`, async () => {
        const mine = await send("shared", content(USER, "a"));
        const theirs = await send("shared", content("user-008", "a"));
        assert.equal(mine.status, 200, shown(mine));
        assert.equal(theirs.status, 200, shown(theirs));
        assert.notEqual(theirs.body[id], mine.body[id]);
        assert.equal(theirs.body.user_id, "user-008");
      });

      test(`${name}: without a key the same twice is two rows`, async () => {
        const send_plain = () => ask(edge, path, { method: "POST", json: content(USER, "plain"), within_ms: WITHIN_MS });
        const [first, second] = [await send_plain(), await send_plain()];
        assert.equal(first.status, 200, shown(first));
        assert.notEqual(first.body[id], second.body[id]);
      });
    }

    test("an order: another amount is another content", async () => {
      const send = (amount) => ask(edge, `${PG}/orders`, { method: "POST", json: order("a", amount), headers: { "Idempotency-Key": "amount" }, within_ms: WITHIN_MS });
      assert.equal((await send(1)).status, 200);
      assert.equal((await send(2)).status, 422);
      assert.equal((await send(1)).status, 200);
    });

    test("the row stays the same one when another program has changed its status since", async () => {
      const send = () => ask(edge, `${PG}/orders`, { method: "POST", json: order("paid"), headers: { "Idempotency-Key": "paid" }, within_ms: WITHIN_MS });
      const first = await send();
      await database.query("UPDATE orders SET status = 'paid' WHERE order_id = $1", [first.body.order_id]);
      const second = await send();
      assert.equal(second.status, 200, shown(second));
      assert.equal(second.body.order_id, first.body.order_id);
      assert.equal(second.body.status, "paid");
    });
  });
});
