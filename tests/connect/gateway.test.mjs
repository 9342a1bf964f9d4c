// BACKEND=gateway and what it needs of wrangler.toml.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stores, workerd } from "../edge.mjs";
import { poll } from "../http/client.mjs";
import { ask, unavailable } from "../observe.mjs";

const WITHIN_MS = 10_000;

test("a gateway without its binding: 503, and the log names what is missing", async () => {
  const real = await stores();
  const edge = await workerd({ ...real.settings, BACKEND: "gateway" }, { has_gateway: false });
  try {
    for (const path of ["/api/vultr/valkey/cache/a", "/api/vultr/postgres/products"]) {
      unavailable(await ask(edge, path, { within_ms: WITHIN_MS }), { status: 503, secrets: ["GATEWAY"] });
    }
    await poll("both in the log", WITHIN_MS, async () =>
      ["Valkey", "PostgreSQL"].every((store) => edge.log().includes(`${store} cannot be reached: the gateway: Error: BACKEND=gateway needs the binding GATEWAY`)));
  } finally {
    await edge.close();
    await real.close();
  }
  assert.ok(!edge.log().includes("Uncaught"), edge.log());
});
