// The first connection on which an order is placed is cut after each of its bytes, each way, and
// the next one is good: the edge tries again by itself, and whether the first attempt was
// committed or not, the caller is told of one order, and that is the only one. In cuts.test.mjs no
// connection is good, so no second attempt succeeds.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { cheapRole } from "../cheap-role.mjs";
import { NOTHING_BETWEEN, stores, workerd } from "../edge.mjs";
import { faultProxy, passing } from "../fault-proxy.mjs";
import { ask, unavailable } from "../observe.mjs";

const PG = "/api/vultr/postgres";
/** About an answer at all, on a busy machine. */
const WITHIN_MS = 20_000;
/** Isolates, each with a proxy of its own, because only one request at a time may meet a cut. */
const LANES = 4;
/** Replies differ by some digits (times, process ids): so much further than the longest one seen. */
const LONGER_BYTES = 16;
const USER = "user-007";

describe("the first of two connections is cut after each byte of an order", () => {
  let real, database, lanes, secrets;
  before(async () => {
    real = await stores();
    database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
    await database.connect();
    const url = await cheapRole(database, real.settings.DATABASE_URL, "once");
    secrets = [url.password];
    lanes = await Promise.all(Array.from({ length: LANES }, async () => {
      const proxy = await faultProxy(Number(url.port));
      const own = new URL(url);
      own.port = proxy.port;
      // A busy machine is no fault.
      const edge = await workerd({ ...NOTHING_BETWEEN, DATABASE_URL: own.href, VALKEY_URL: real.settings.VALKEY_URL, VALKEY_DEADLINE_MS: "10000", POSTGRES_DEADLINE_MS: "15000" });
      return { proxy, edge };
    }));
  });
  after(async () => {
    for (const { proxy, edge } of lanes ?? []) {
      await edge.close();
      proxy.close();
    }
    await database?.end();
    await real?.close();
  });

  const shown = (answer) => `${answer.what} -> ${answer.status} ${answer.text.slice(0, 300)}`;
  const place = (edge, product, headers) =>
    ask(edge, `${PG}/orders`, { method: "POST", json: { user_id: USER, items: [{ product_id: product, quantity: 1, price: 1, size: "M" }], total_amount: 1 }, headers, within_ms: WITHIN_MS });

  for (const [direction, whose] of [["client_bytes", "of the client"], ["store_bytes", "of the store"]]) {
    test(`bytes ${whose}: one order, and the caller is told which`, async (context) => {
      const [{ proxy, edge }] = lanes;
      proxy.forget();
      assert.equal((await place(edge, `whole ${direction}`)).status, 200);
      const length = proxy.lengths()[direction] + LONGER_BYTES;

      const answers = [];
      let cuts = 0;
      await Promise.all(lanes.map(async ({ proxy, edge }, lane) => {
        for (let at = lane; at <= length; at += LANES) {
          const product = `${direction} ${at}`;
          let is_first = true;
          proxy.fail(passing(proxy.target, () => {
            if (!is_first) return {};
            is_first = false;
            cuts += 1;
            return { [direction]: at, cut: Math.floor(at / LANES) % 2 ? "reset" : "end" };
          }));
          const answer = await place(edge, product, at % 3 ? {} : { "Idempotency-Key": product });
          answers.push({ product, answer });
        }
        await proxy.heal();
        assert.deepEqual(proxy.failures, []);
      }));
      assert.equal(cuts, length + 1, "a connection came when none was expected");

      const { rows } = await database.query("SELECT order_id, items->0->>'product_id' AS product FROM orders WHERE items->0->>'product_id' LIKE $1", [`${direction} %`]);
      const stored = Map.groupBy(rows, ({ product }) => product);
      let acknowledged = 0;
      for (const { product, answer } of answers) {
        const ids = (stored.get(product) ?? []).map(({ order_id }) => order_id);
        if (answer.status === 200) {
          acknowledged += 1;
          assert.deepEqual(ids, [answer.body.order_id], `${product}: ${shown(answer)}`);
        } else {
          unavailable(answer, { secrets });
          assert.ok(ids.length <= 1, `${product} is stored ${ids.length} times: ${shown(answer)}`);
        }
      }
      context.diagnostic(`cuts at 0 to ${length} bytes: ${acknowledged} of ${answers.length} orders acknowledged`);
      // One broken connection is what the second attempt is for.
      assert.equal(acknowledged, answers.length, `${answers.find(({ answer }) => answer.status !== 200)?.product} was not acknowledged`);
    });
  }
});
