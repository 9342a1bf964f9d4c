// wrangler the way any Workers user calls it: `npx wrangler …` in the checkout, with the settings
// of `.dev.vars.example` filled in.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { ROOT, freePort, stores } from "../edge.mjs";

const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-wrangler-"));
after(() => rm(directory, { recursive: true }));

/** The variables of the example, uncommented where `values` has one. */
async function filledIn(values) {
  const example = await readFile(`${ROOT}.dev.vars.example`, "utf8");
  const left = new Set(Object.keys(values));
  const lines = example.split("\n").map((line) => {
    const name = /^#?([A-Z0-9_]+)=/.exec(line)?.[1];
    return left.delete(name) ? `${name}=${values[name]}` : line;
  });
  assert.deepEqual([...left], [], "names that the example does not have");
  return lines.join("\n");
}

async function wranglerDev(settings, use) {
  const file = join(directory, "vars");
  await writeFile(file, settings);
  const port = await freePort();
  const child = spawn("npx", ["wrangler", "dev", "--port", String(port), "--inspector-port", "0", "--show-interactive-dev-session", "false", "--env-file", file], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  try {
    const said = [];
    const ready = new Promise((resolve, reject) => {
      for (const input of [child.stdout, child.stderr]) {
        createInterface({ input }).on("line", (line) => {
          said.push(line);
          if (line.includes("Ready on")) resolve();
        });
      }
      child.once("exit", (code) => reject(new Error(`wrangler dev ended (${code}): ${said.join("\n")}`)));
    });
    await ready;
    await use(`http://127.0.0.1:${port}/api/vultr`);
  } finally {
    process.kill(-child.pid, "SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

test("npx wrangler deploy --dry-run", async () => {
  const { stdout } = await promisify(execFile)("npx", ["wrangler", "deploy", "--dry-run", "--outdir", join(directory, "out")], { cwd: ROOT });
  assert.match(stdout, /Total Upload: .*gzip/);
});

test("npx wrangler dev, with the names of the integration guide", async () => {
  const behind = await stores();
  try {
    const postgres = new URL(behind.settings.DATABASE_URL);
    const valkey = new URL(behind.settings.VALKEY_URL);
    const settings = await filledIn({
      VULTR_POSTGRES_HOST: postgres.hostname,
      VULTR_POSTGRES_PORT: postgres.port,
      VULTR_POSTGRES_DATABASE: postgres.pathname.slice(1),
      VULTR_POSTGRES_USER: postgres.username,
      VULTR_POSTGRES_PASSWORD: postgres.password,
      VULTR_POSTGRES_SSL: "disable",
      VULTR_VALKEY_HOST: valkey.hostname,
      VULTR_VALKEY_PORT: valkey.port,
      VULTR_VALKEY_PASSWORD: valkey.password,
      VULTR_VALKEY_TLS: "false",
    });
    await wranglerDev(settings, async (api) => {
      for (const store of ["postgres", "valkey"]) {
        const answer = await fetch(`${api}/${store}/health`);
        assert.equal(answer.status, 200, await answer.text());
      }
      assert.equal((await (await fetch(`${api}/postgres/products?limit=2`)).json()).length, 2);
    });
  } finally {
    await behind.close();
  }
});

test("npx wrangler dev, with a setting that is malformed: 503 and a sentence that names it", async () => {
  const url = "valkey://:hunter2@127.0.0.1:1";
  const settings = await filledIn({ VULTR_POSTGRES_PORT: "hunter2", VALKEY_URL: url, L1_BYTES: "32MiB" });
  await wranglerDev(settings, async (api) => {
    for (const path of ["valkey/session/s", "postgres/products", "valkey/health", "postgres/health"]) {
      const answer = await fetch(`${api}/${path}`);
      const text = await answer.text();
      assert.equal(answer.status, 503, text);
      assert.match(JSON.parse(text).error, /^L1_BYTES is a whole number from 0 to/);
      assert.ok(!text.includes("hunter2"));
    }
  });
});
