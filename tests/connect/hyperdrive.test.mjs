// A Hyperdrive binding, as workerd itself has it: a host name that only the Worker can reach,
// with a user and a password of the binding's own. Hyperdrive's pool is Cloudflare's; what
// answers at its other end here is a real PostgreSQL, or a script where it is about log-in.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { NOTHING_BETWEEN, freePort, stores, workerd } from "../edge.mjs";
import { ask, unavailable } from "../observe.mjs";
import { KEY, LET_IN, READY, int32, message, request, scripted, startup } from "../scripted.mjs";

const WITHIN_MS = 10_000;
const ROWS = "/api/vultr/postgres/products?limit=2";

describe("a Hyperdrive binding", () => {
  let real;
  before(async () => (real = await stores()));
  after(() => real?.close());

  /** Runs with an edge that has the binding, and whose other PostgreSQL is not there. */
  async function withEdge(hyperdrive, work) {
    const nowhere = new URL(real.settings.DATABASE_URL);
    nowhere.port = await freePort();
    const edge = await workerd({ ...real.settings, DATABASE_URL: nowhere.href, ...NOTHING_BETWEEN }, { hyperdrive });
    try {
      const get = (path) => ask(edge, path, { within_ms: WITHIN_MS });
      await work({ get, edge });
      const { password } = new URL(hyperdrive);
      assert.ok(!edge.log().includes(password), "the log has the password");
    } finally {
      await edge.close();
    }
  }

  test("comes before DATABASE_URL: health, rows and a write", () =>
    withEdge(real.settings.DATABASE_URL, async ({ get, edge }) => {
      const health = await get("/api/vultr/postgres/health");
      assert.equal(health.status, 200, `${health.text}\n${edge.log()}`);
      const rows = await get(ROWS);
      assert.equal(rows.status, 200);
      assert.equal(rows.body.length, 2);
      const path = "/api/vultr/postgres/users/by-hyperdrive/profile";
      const saved = await ask(edge, path, { method: "POST", json: { preferences: { way: "hyperdrive" } }, within_ms: WITHIN_MS });
      assert.equal(saved.status, 200, saved.text);
      assert.deepEqual((await get(path)).body.preferences, { way: "hyperdrive" });
    }));

  test("that leads nowhere: 503, and DATABASE_URL does not take its place", async () => {
    const nowhere = new URL(real.settings.DATABASE_URL);
    nowhere.port = await freePort();
    await withEdge(nowhere.href, async ({ get }) =>
      unavailable(await get(ROWS), { status: 503, secrets: [nowhere.password, "hyperdrive.local"] }));
  });

  test("may be given the password in clear text: its channel never leaves the platform", async () => {
    let given;
    const server = await scripted(async (peer) => {
      await startup(peer);
      await peer.send(message("R", int32(3)));
      given = (await request(peer)).body.toString();
      await peer.send(LET_IN, KEY, READY);
      peer.close();
    });
    try {
      await withEdge(`postgres://someone:only-for-the-pool@127.0.0.1:${server.port}/shop`, async ({ get }) => {
        unavailable(await get(ROWS), { status: 503, secrets: ["only-for-the-pool"] });
        assert.equal(given, "only-for-the-pool\0");
        assert.deepEqual(server.failures, []);
      });
    } finally {
      server.close();
    }
  });
});
