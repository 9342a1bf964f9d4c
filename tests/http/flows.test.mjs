// The flows of the shop, called the way its browser client calls them: plain fetch, plain
// concatenation, ids not percent-encoded, 404 read as null.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EDGE_URL, poll, postgresClient, uid, valkeyClient } from "./client.mjs";

const postgres = postgresClient();
const valkey = valkeyClient();

/** User ids as the shop's sign-in makes them; the client puts them into the path as they are. */
const userIds = () => [uid("user"), `auth0|${uid()}`, `${uid()}@example.test`, `${uid()}:é 😀,;=&$!'()*[]^~+`];

/** The part of a voice query that reads: what the assistant must know before it can answer. */
async function voiceContext(userId, sessionId) {
  const session = await valkey.getSession(sessionId);
  const conversation = await valkey.getConversationContext(userId);
  let preferences = await valkey.getPreferences(userId);
  if (preferences === null) {
    preferences = (await postgres.getUserProfile(userId))?.preferences ?? null;
    if (preferences !== null) assert.equal(await valkey.setPreferences(userId, preferences, 3600), true);
  }
  const recommendations = await valkey.getRecommendations(userId);
  const products = await postgres.getProducts({ limit: 20 });
  return { session, conversation, preferences, recommendations, products };
}

describe("flow: voice query", () => {
  test("a stranger: session, conversation and recommendations are null, products are there", async () => {
    const seen = await voiceContext(uid("user"), uid("session"));
    assert.deepEqual([seen.session, seen.conversation, seen.preferences, seen.recommendations], [null, null, null, null]);
    assert.ok(seen.products.slice(0, 3).length > 0);
  });

  test("a known user: preferences come from the profile, then from the cache; the context is stored for the next turn", async () => {
    for (const userId of userIds()) {
      const sessionId = uid("session");
      await postgres.saveUserProfile(userId, { preferences: { colours: ["green"], size: "M" } });
      assert.equal(await valkey.setSession(sessionId, { userId, sessionId, createdAt: Date.now() }), true);

      const first = await voiceContext(userId, sessionId);
      assert.equal(first.session.userId, userId);
      assert.equal(typeof first.session.lastAccessed, "number");
      assert.deepEqual(first.preferences, { colours: ["green"], size: "M" });
      assert.ok(first.products.length > 0 && first.products.length <= 20);
      for (const { price } of first.products) assert.equal(typeof price, "number");

      const context = [
        { role: "user", text: "a green coat, please" },
        { role: "assistant", text: first.products[0].name },
      ];
      assert.equal(await valkey.setConversationContext(userId, context, 3600), true);
      assert.equal(
        await valkey.setRecommendations(
          userId,
          first.products.slice(0, 5).map(({ id }) => id),
          1800,
        ),
        true,
      );
      assert.equal(await valkey.touchSession(sessionId), true);

      await postgres.saveUserProfile(userId, { preferences: { colours: ["blue"] } }); // the cached copy must answer now
      const second = await voiceContext(userId, sessionId);
      assert.deepEqual(second.conversation, context);
      assert.deepEqual(second.preferences, { colours: ["green"], size: "M" });
      assert.deepEqual(
        second.recommendations,
        first.products.slice(0, 5).map(({ id }) => id),
      );

      assert.equal(await valkey.deleteSession(sessionId), true);
      assert.equal(await valkey.getSession(sessionId), null);
    }
  });

  test("filters that are falsy never leave the client, so all products come back", async () => {
    assert.deepEqual((await postgres.getProducts({ minPrice: 0, maxPrice: 0, category: "", limit: 0 })).length, (await postgres.getProducts()).length);
  });
});

describe("flow: recommendations", () => {
  test("computed once from profile, products and returns, then read from the cache until emptied", async () => {
    for (const userId of userIds()) {
      assert.equal(await valkey.getRecommendations(userId), null);
      await postgres.saveUserProfile(userId, { preferences: { style: "minimal" }, body_measurements: { height_cm: 172.5 } });
      const [profile, products, returns] = [
        await postgres.getUserProfile(userId),
        await postgres.getProducts({ minPrice: 5, maxPrice: 200, limit: 50 }),
        await postgres.getReturns(userId),
      ];
      assert.deepEqual(profile.body_measurements, { height_cm: 172.5 });
      assert.equal(
        returns.reduce((count) => count + 1, 0),
        0,
      );
      for (const { price } of products) assert.ok(price >= 5 && price <= 200);
      const best = products.slice(0, 3).map((product) => ({ product, score: product.rating / 5, reason: "rating" }));
      assert.equal(await valkey.setRecommendations(userId, best, 1800), true);
      assert.deepEqual(await valkey.getRecommendations(userId), best);
      assert.equal(await valkey.delete(`recommendations:${userId}`), true);
      assert.equal(await valkey.getRecommendations(userId), null);
    }
  });
});

describe("flow: order placed", () => {
  test("place an order, empty the recommendations through the generic key, find the order, return it", async () => {
    for (const userId of userIds()) {
      await postgres.saveUserProfile(userId, { preferences: {} });
      assert.deepEqual(await postgres.getUserOrders(userId), []);
      await valkey.setRecommendations(userId, [{ id: "old" }]);
      assert.deepEqual(await valkey.getRecommendations(userId), [{ id: "old" }]);

      const [product] = await postgres.getProducts({ limit: 1 });
      const items = [{ product_id: product.id, quantity: 2, price: product.price, size: "M" }];
      const order = await postgres.createOrder({ user_id: userId, items, total_amount: 2 * product.price, status: "confirmed" });
      assert.equal(order.orderId, order.order_id);

      assert.equal(await valkey.delete(`recommendations:${userId}`), true);
      assert.equal(await valkey.getRecommendations(userId), null);

      for (const limit of [50, 1, 10]) {
        const [found] = await postgres.getUserOrders(userId, limit);
        assert.equal(found.order_id, order.order_id);
        assert.deepEqual([found.items, found.status, found.total_amount], [items, "confirmed", Number((2 * product.price).toFixed(2))]);
      }

      assert.deepEqual(await postgres.getReturns(userId, product.id), []);
      const ret = await postgres.createReturn({ order_id: order.order_id, user_id: userId, product_id: product.id, reason: "too small" });
      assert.equal(ret.returnId, ret.return_id);
      for (const found of [await postgres.getReturns(userId), await postgres.getReturns(userId, product.id)])
        assert.deepEqual(
          found.map(({ return_id }) => return_id),
          [ret.return_id],
        );
    }
  });

  test("an order of a user nobody knows throws in the client and leaves nothing behind", async () => {
    const userId = uid("user");
    await assert.rejects(postgres.createOrder({ user_id: userId, items: [], total_amount: 1 }), /HTTP 4\d\d/);
    assert.deepEqual(await postgres.getUserOrders(userId), []);
  });
});

describe("flow: generic cache and batch helper", () => {
  test("set, get, delete and batch as the client's wrappers call them", async () => {
    const key = `search:${uid()}:coats & hats`;
    assert.equal(await valkey.get(key), null);
    assert.equal(await valkey.set(key, { hits: [1, 2] }, 60), true);
    assert.deepEqual(await valkey.get(key), { hits: [1, 2] });
    assert.deepEqual(
      (
        await valkey.batch([
          { type: "get", key },
          { type: "delete", key },
          { type: "get", key },
        ])
      ).map(({ value }) => value ?? null),
      [{ hits: [1, 2] }, null, null],
    );
    assert.equal(await valkey.set(key, undefined), true);
    assert.equal(await valkey.get(key), null);
    assert.equal(await valkey.set(key, 1, -1), false);
  });

  test("NaN as a ttl becomes null in JSON and means the default", async () => {
    const userId = uid("user");
    assert.equal(await valkey.setConversationContext(userId, { a: 1 }, NaN), true);
    assert.deepEqual(await valkey.getConversationContext(userId), { a: 1 });
  });
});

describe("flow: health monitoring", () => {
  test("both health routes are green, with status, latency and no error, through the client and raw", async () => {
    for (const [name, client] of [
      ["postgres", postgres],
      ["valkey", valkey],
    ]) {
      const health = await client.healthCheck();
      assert.equal(health.status, "healthy", JSON.stringify(health));
      const response = await fetch(`${EDGE_URL}/api/vultr/${name}/health`, { signal: AbortSignal.timeout(5_000) });
      assert.equal(response.status, 200);
      const body = await response.json();
      assert.equal(body.status, "healthy");
      assert.equal(typeof body.latency, "number");
      assert.ok(body.error === undefined || typeof body.error === "string");
    }
  });

  test("the other status card gets a quick JSON 404 and falls back to its mock", async () => {
    const response = await fetch(`${EDGE_URL}/api/vultr/status`, { signal: AbortSignal.timeout(2_000) });
    assert.equal(response.status, 404);
    assert.equal((await response.json()).live, undefined);
  });

  test("metrics move while the shop is used", async () => {
    const before = (await valkey.getMetrics()).totalRequests;
    assert.equal(typeof before, "number");
    await poll("more requests in the metrics", 5_000, async () => {
      await valkey.get(uid());
      return (await valkey.getMetrics()).totalRequests > before;
    });
  });
});
