// Those that are compared, by name: each starts from settings and gives { url, pid, log, close }.
// A new one (another back end of the edge, another framework) is one more line here; what it
// answers is checked by peers/behaviour.test.mjs before it is measured.
//
// Knows how they are built and started; knows no route and no measurement.

import { build } from "esbuild";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT, server, workerd } from "../tests/edge.mjs";

const PEERS = `${ROOT}benches/peers`;

/** A peer that is a Worker, bundled for the platform as wrangler would. */
const bundled = (file, more) => async (settings, options) => {
  const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-peer-"));
  const outfile = join(directory, "index.js");
  await build({
    entryPoints: [`${PEERS}/${file}`],
    outfile,
    bundle: true,
    minify: true,
    format: "esm",
    platform: "node",
    target: "es2024",
    conditions: ["workerd", "worker"],
    external: ["cloudflare:*", "pg-native"],
    // For what is CommonJS and requires modules of Node.js.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire("/");' },
    logLevel: "error",
  });
  const peer = await workerd(settings, { ...options, ...more, script: outfile });
  await rm(directory, { recursive: true });
  return peer;
};

export const CONTESTANTS = {
  bare: bundled("bare.mjs"),
  "bare, headers": bundled("bare-headers.mjs"),
  "bare, connects": bundled("bare-connects.mjs"),
  "bare, gateway": bundled("bare-gateway.mjs", { has_gateway: true }),
  edge: (settings, options) => workerd(settings, options),
  "edge, gateway": (settings, options) => workerd({ ...settings, BACKEND: "gateway", GATEWAY_SHARDS: "1" }, options),
  hono: bundled("hono.mjs"),
  express: (settings) => server(`${PEERS}/express.mjs`, settings),
};

/**
 * Those that know no route, and do of an answer only what the platform must: what an answer from
 * L1 can be held against, and one for which a store is asked.
 */
const CEILINGS = { l1: ["bare", "bare, headers"], stores: ["bare, connects", "bare, gateway"] };
export const ceilingsOf = ({ is_l1 }) => (is_l1 ? CEILINGS.l1 : CEILINGS.stores);
export const ANSWERING = Object.keys(CONTESTANTS).filter((name) => !Object.values(CEILINGS).flat().includes(name));
