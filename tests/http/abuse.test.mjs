// What a caller can send within the API's limits and still hurt others with: values that are
// large together, numbers that grow, rows that fill a list, paths that name something else.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PG, VK, get, missing, ok, post, postText, rawRequest, refused, uid } from "./client.mjs";

const MIB = 1024 * 1024;

describe("abuse", () => {
  test("a batch of large values answers as many as fit, each in its place, and says so of the others", async () => {
    const key = uid("large");
    ok(await post(`${VK}/cache/${key}`, { value: "x".repeat(3 * MIB), ttl: 60 }));
    // In L1 now, so that no round trip limits the batch.
    ok(await get(`${VK}/cache/${key}`));
    const answer = ok(await post(`${VK}/batch`, { operations: Array(300).fill({ type: "get", key }) }));
    assert.equal(answer.results.length, 300);
    const [fine, others] = [true, false].map((success) => answer.results.filter((result) => result.success === success));
    assert.equal(fine.length, 7);
    assert.match(others[0].error, /ask for fewer/);
    // Nobody lost anything.
    assert.equal(ok(await get(`${VK}/cache/${key}`)).value.length, 3 * MIB);
  });

  for (const number of ["1e131000", "-1E-99999", "1e401"]) {
    test(`${number} is no number for a row: 400, and nothing is stored`, async () => {
      const user = uid("number");
      refused(await postText(`${PG}/users/${user}/profile`, `{"preferences":{"a":[${number}]}}`), 400);
      missing(await get(`${PG}/users/${user}/profile`));
      ok(await post(`${PG}/users/${user}/profile`, { preferences: { a: "1e131000" } }));
      refused(await postText(`${PG}/orders`, `{"user_id":"${user}","items":[{"a":${number}}],"total_amount":1}`), 400);
      assert.deepEqual(ok(await get(`${PG}/users/${user}/orders`)), []);
    });
  }

  test("large orders leave a list: the newest ones that fit", async () => {
    const user = uid("orders");
    ok(await post(`${PG}/users/${user}/profile`, { preferences: {} }));
    const placed = [];
    for (let n = 0; n < 4; n++) {
      const order = { user_id: user, items: [{ n, filler: "x".repeat(8 * MIB) }], total_amount: 1 };
      placed.unshift(ok(await post(`${PG}/orders`, order)).order_id);
    }
    // Also when the list was read before: what is too large for a copy takes none from others.
    for (let n = 0; n < 3; n++) {
      const answer = await get(`${PG}/users/${user}/orders`);
      const listed = ok(answer).map((order) => order.order_id);
      assert.deepEqual(listed, placed.slice(0, 2));
      assert.doesNotMatch(answer.headers.get("cache-status"), /unavailable/);
    }
  });

  test("long reasons leave a list of returns, of the user and of everybody", async () => {
    const user = uid("returns");
    ok(await post(`${PG}/users/${user}/profile`, { preferences: {} }));
    const order = ok(await post(`${PG}/orders`, { user_id: user, items: [], total_amount: 1 })).order_id;
    const last = [];
    for (let n = 0; n < 4; n++) {
      const wanted = { order_id: order, user_id: user, product_id: "p", reason: "\u0001".repeat(1.5 * MIB) };
      last.unshift(ok(await post(`${PG}/returns`, wanted)).return_id);
    }
    for (const path of [`${PG}/returns?userId=${user}`, `${PG}/returns`]) {
      const listed = ok(await get(path)).map((one) => one.return_id);
      assert.ok(last.slice(0, 2).every((one) => listed.includes(one)), path);
      if (path.includes("userId")) assert.deepEqual(listed, last.slice(0, 2));
    }
  });

  test("a touch of a large session restarts its time and leaves the rest", async () => {
    const id = uid("touched");
    const text = `{"lastAccessed":[${Array(MIB).fill('""').join()}]}`;
    ok(await postText(`${VK}/session/${id}`, text));
    ok(await rawRequest("POST", `${VK}/session/${id}/touch`));
    assert.equal((await get(`${VK}/session/${id}`)).text, text);
  });

  test("the longest typed id has a generic key, which empties it", async () => {
    const id = "\u{1f600}".repeat(254) + uid("").slice(-1);
    const path = `${VK}/cache/recommendations/${encodeURIComponent(id)}`;
    ok(await post(path, { recommendations: [1] }));
    ok(await get(path));
    ok(await rawRequest("DELETE", `${VK}/cache/${encodeURIComponent(`recommendations:${id}`)}`));
    missing(await get(path));
  });

  test("encoded dot segments are ids and keys, and name nothing else", async () => {
    const key = uid("dots");
    ok(await post(`${VK}/cache/${key}`, { value: 1, ttl: 60 }));
    missing(await rawRequest("GET", `${VK}/session/%2e%2e/metrics`));
    const deleted = await rawRequest("DELETE", `${VK}/cache/preferences/%2e%2e/${key}`);
    assert.deepEqual(deleted.body, { success: false });
    assert.equal(ok(await get(`${VK}/cache/${key}`)).value, 1);
  });
});
