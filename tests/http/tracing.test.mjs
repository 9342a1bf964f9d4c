// The edge's own trace lines, as an operator's log has them. The edges here have no
// stores: what is asked, and by whom, is traced whatever is answered.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import test from "node:test";
import * as edges from "../edge.mjs";

const TRACE_KEY = "a key of the tests, long enough";
const hashed = (id) => createHmac("sha256", TRACE_KEY).update(id).digest("hex").slice(0, 16);

/** The lines that an edge printed, once there are `count`. */
async function lines(edge, count) {
  for (let tries = 0; ; tries++) {
    const found = [...edge.log().matchAll(/\{"trace":1,.*\}/g)].map(([line]) => JSON.parse(line));
    if (found.length >= count || tries === 100) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

for (const host of ["workerd", "native"]) {
  test(`${host} prints a line for each traced request, without an id in it`, async () => {
    const edge = await edges[host]({ TRACE_SAMPLE: "1", TRACE_KEY });
    try {
      const headers = { "cf-connecting-ip": "192.0.2.7" };
      const ask = (path, init) => fetch(`${edge.url}/api/vultr${path}`, { headers, ...init }).then((answer) => answer.text());
      await ask("/valkey/session/a%2Fb");
      await ask("/postgres/products?limit=3&utm_source=x&category=shoes");
      const body = JSON.stringify({ user_id: "user-007", items: [], total_amount: 1 });
      await ask("/postgres/orders", { method: "POST", body, headers: { ...headers, "content-type": "application/json" } });
      await ask("/valkey/metrics");
      const found = await lines(edge, 3);
      assert.deepEqual(
        found.map(({ method, route, key, status }) => ({ method, route, key, status })),
        [
          { method: "GET", route: "/valkey/session/{key}", key: hashed("a/b"), status: 503 },
          { method: "GET", route: "/postgres/products?{key}", key: "category=shoes&limit=3", status: 503 },
          { method: "POST", route: "/postgres/orders", key: hashed("user-007"), status: 503 },
        ],
      );
      assert.equal(found[2].size_bytes, body.length);
      assert.equal(found[0].client, hashed(host === "workerd" ? "192.0.2.7" : "127.0.0.1"));
      assert.ok(!edge.log().includes("user-007") && !edge.log().includes("192.0.2.7"));
    } finally {
      await edge.close();
    }
  });

  test(`${host} prints none unless it is told to, and says what is wrong with how`, async () => {
    const silent = await edges[host]({ TRACE_KEY });
    const wrong = await edges[host]({ TRACE_SAMPLE: "1" });
    try {
      await fetch(`${silent.url}/api/vultr/valkey/session/a`);
      const answer = await fetch(`${wrong.url}/api/vultr/valkey/session/a`);
      assert.equal(answer.status, 503);
      assert.match((await answer.json()).error, /^TRACE_KEY /);
      assert.ok(![silent, wrong].some((edge) => edge.log().includes('"trace"')));
    } finally {
      await silent.close();
      await wrong.close();
    }
  });
}
