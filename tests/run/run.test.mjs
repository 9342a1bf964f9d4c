// What `make run` does after set-up and build (`sim dev`): from the first check to Ctrl-C, and a
// sentence for everything that can be wrong. Uses a directory and ports of its own.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { ROOT, freePort, stores } from "../edge.mjs";

const SIM = `${ROOT}target/debug/sim`;

const data = await mkdtemp(join(tmpdir(), "shepherd-edge-run-"));
after(() => rm(data, { recursive: true, force: true }));

/** `sim dev` with exactly these variables beside PATH and HOME, and what it says. */
function dev(variables, ...words) {
  const child = spawn(SIM, ["dev", "--data", data, ...words], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, POSTGRES_BIN: process.env.POSTGRES_BIN, VALKEY_SERVER: process.env.VALKEY_SERVER, ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = { child, out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (said.out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (said.err += text));
  said.exit = once(child, "exit").then(([code]) => code);
  said.until = async (pattern) => {
    while (!pattern.test(said.out)) {
      const more = await Promise.race([once(child.stdout, "data"), said.exit]);
      if (typeof more === "number" && !pattern.test(said.out)) throw new Error(`ended (${more}) before ${pattern}: ${said.out}${said.err}`);
    }
  };
  return said;
}

/** Everything that still runs below a process: `[pid, command]`. */
async function descendants(root) {
  const children = new Map();
  const names = new Map();
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const line = await readFile(`/proc/${entry}/stat`, "utf8").catch(() => "");
    const match = /^(\d+) \((.*)\) \S (\d+) /s.exec(line);
    if (!match) continue;
    names.set(Number(match[1]), match[2]);
    children.set(Number(match[3]), [...(children.get(Number(match[3])) ?? []), Number(match[1])]);
  }
  const found = [];
  const queue = [root];
  for (let pid; (pid = queue.shift()) !== undefined;) {
    for (const child of children.get(pid) ?? []) {
      found.push([child, names.get(child)]);
      queue.push(child);
    }
  }
  return found;
}

/** A zombie has ended; its parent has not looked yet. */
const running = (pid) => readFile(`/proc/${pid}/stat`, "utf8").then((line) => !/\) [ZX] /.test(line), () => false);

/** Not by an event: the processes of one that was killed tell nobody. The test's own timeout ends it. */
async function allEnded(processes) {
  for (const [pid] of processes) {
    while (await running(pid)) await new Promise((wake) => setTimeout(wake, 20));
  }
}

/** Bash, because the lines are made for a terminal. */
const shell = (line) => promisify(execFile)("bash", ["-c", line]);

describe("make run", () => {
  test("replays, prints the table, serves, and its three curl lines work; Ctrl-C ends all that it started", async () => {
    const port = await freePort();
    const said = dev({ PORT: String(port) }, "--visits", "60");
    await said.until(/Ctrl-C ends it/);
    for (const column of ["operation", "requests", "L1 %", "L2 %", "L3 %", "p50 ms", "p95 ms", "p99 ms", "target"]) {
      assert.ok(said.out.includes(column), `the table has no column ${column}:\n${said.out}`);
    }
    for (const operation of ["session lookup", "preferences", "recommendations", "products", "user profile", "voice query"]) {
      const line = said.out.split("\n").find((line) => line.includes(operation));
      assert.match(line ?? "", /\b(met|missed)\b/, `no verdict for ${operation}:\n${said.out}`);
    }
    assert.match(said.out, new RegExp(`Serving on http://127\\.0\\.0\\.1:${port}\\n`));

    const lines = said.out.split("\n").map((line) => line.trim()).filter((line) => line.startsWith("curl "));
    assert.equal(lines.length, 3);
    const [products, profile, stored] = await Promise.all(lines.map((line) => shell(line).then(({ stdout }) => stdout)));
    assert.ok(JSON.parse(products).length > 0);
    assert.match(profile, /^HTTP\/1\.1 200 .*cache-status: /is);
    assert.deepEqual(JSON.parse(stored), { success: true });

    const started = await descendants(said.child.pid);
    for (const name of ["workerd", "postgres", "valkey-server"]) {
      assert.ok(started.some(([, command]) => command.startsWith(name)), `${name} does not run: ${started}`);
    }
    const second = dev({ PORT: String(port) }, "--no-replay");
    assert.equal(await second.exit, 1);
    assert.match(second.err, /in use by another run \(process \d+\)/);

    said.child.kill("SIGINT");
    assert.equal(await said.exit, 0, said.err);
    await allEnded(started);
    assert.deepEqual((await readdir(data)).filter((name) => name.endsWith(".env")), [], "the stores' passwords stayed behind");
  });

  test("a second run finds the data of the first; killed, it leaves nothing behind", async () => {
    const said = dev({ PORT: String(await freePort()) }, "--no-replay");
    await said.until(/Ctrl-C ends it/);
    const stored = /curl -i (http:\S+)\/api/.exec(said.out)[1];
    const answer = await fetch(`${stored}/api/vultr/valkey/cache/greeting`);
    assert.deepEqual(await answer.json(), { value: "hello" }, "Valkey lost what the first run stored");
    const started = await descendants(said.child.pid);
    said.child.kill("SIGKILL");
    await said.exit;
    await allEnded(started);
  });

  test("with --once it ends by itself after the table", async () => {
    const said = dev({ PORT: String(await freePort()) }, "--once", "--visits", "20");
    assert.equal(await said.exit, 0, said.err);
    assert.match(said.out, /voice query/);
  });
});

describe("stores of one's own", () => {
  let own;
  before(async () => (own = await stores()));
  after(() => own.close());

  test("DATABASE_URL and VALKEY_URL are used, and nothing else is started", async () => {
    const said = dev({ PORT: String(await freePort()), ...own.settings }, "--no-replay");
    await said.until(/Ctrl-C ends it/);
    const started = (await descendants(said.child.pid)).map(([, name]) => name);
    assert.ok(!started.some((name) => /postgres|valkey/.test(name)), `${started}`);
    said.child.kill("SIGINT");
    assert.equal(await said.exit, 0);
    assert.ok(await running(own.postgres_pid), "it ended a store that is not its own");
  });

  const wrong = (url, change) => {
    const changed = new URL(url);
    change(changed);
    return changed.href;
  };
  for (const [what, variables, sentence] of [
    ["a wrong password for PostgreSQL", async () => ({ DATABASE_URL: wrong(own.settings.DATABASE_URL, (url) => (url.password = "wr0ng")) }), /DATABASE_URL.*password/is],
    ["a wrong password for Valkey", async () => ({ VALKEY_URL: wrong(own.settings.VALKEY_URL, (url) => (url.password = "wr0ng")) }), /VALKEY_URL.*password/is],
    ["nobody listening for PostgreSQL", async () => ({ DATABASE_URL: `postgres://u:p@127.0.0.1:${await freePort()}/d?sslmode=disable` }), /DATABASE_URL.*refuses connections/is],
    ["an unknown host for Valkey", async () => ({ VALKEY_URL: "valkey://:p@no-such-host.invalid:6379" }), /VALKEY_URL.*host.*unknown/is],
    ["a malformed DATABASE_URL", async () => ({ DATABASE_URL: "style-shepherd" }), /DATABASE_URL/],
    ["TLS to a Valkey without it", async () => ({ VALKEY_URL: own.settings.VALKEY_URL.replace("valkey:", "valkeys:") }), /VALKEY_URL.*without TLS/is],
    ["a port that is no port", async () => ({ PORT: "http" }), /PORT=http is not a port/],
    ["a missing tool", async () => ({ POSTGRES_BIN: "/nonexistent", PATH: "/nonexistent" }), /POSTGRES_BIN.*holds no postgres/s],
  ]) {
    test(`${what}: one sentence and a non-zero exit`, async () => {
      const given = { PORT: String(await freePort()), ...(await variables()) };
      const said = dev(given, "--no-replay");
      assert.equal(await said.exit, 1, said.out);
      const told = said.err.trim();
      assert.match(told, sentence);
      assert.ok(!told.includes("wr0ng"), "the password was repeated");
      assert.ok(!/panicked|stack backtrace|Caused by/.test(told), told);
    });
  }

  test("a taken port: one sentence and a non-zero exit", async () => {
    const squatter = net.createServer().listen(0, "127.0.0.1");
    await once(squatter, "listening");
    const { port } = squatter.address();
    const said = dev({ PORT: String(port) });
    assert.equal(await said.exit, 1);
    assert.match(said.err, new RegExp(`port ${port} is taken.*PORT=`, "s"));
    squatter.close();
  });
});
