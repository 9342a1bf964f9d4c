// TLS to real stores, from both hosts: whose certificate is taken, what leaves before it was
// looked at, and that a CancelRequest is protected as its statement was.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { NOTHING_BETWEEN, native, stores, workerd } from "../edge.mjs";
import { ask, unavailable } from "../observe.mjs";
import { KEY, LET_IN, Peer, READY, errorResponse, int32, message, request, scripted, startup, statement } from "../scripted.mjs";
import { certificate, tlsProxy } from "../tls-proxy.mjs";

const WITHIN_MS = 10_000;
const ROWS = "/api/vultr/postgres/products?limit=2";
const VALUE = "/api/vultr/valkey/cache/tls";
const CANCEL = Buffer.from([4, 210, 22, 46]);
const SSL_REQUEST_BYTES = 8;
const HOSTS = ["Wasm in workerd", "native build"];

describe("TLS to the stores", () => {
  let real, directory, good, bad, password, database, locker;

  before(async () => {
    real = await stores();
    directory = await mkdtemp(join(tmpdir(), "shepherd-edge-tls-"));
    const [known, unknown, otherHost, expired] = await Promise.all([
      certificate(["localhost", "127.0.0.1"]),
      certificate(["localhost", "127.0.0.1"]),
      certificate(["elsewhere.example", "127.0.0.2"]),
      certificate(["localhost", "127.0.0.1"], { expired: true }),
    ]);
    good = known;
    bad = [["of an unknown authority", unknown], ["of another host", otherHost], ["that is expired", expired]];
    // Everybody but the unknown authority: each certificate has one thing wrong with it.
    good.roots = [known.ca, otherHost.ca, expired.ca];
    await writeFile(join(directory, "roots.pem"), good.roots.join(""));
    ({ password } = new URL(real.settings.DATABASE_URL));
    [database, locker] = [0, 1].map(() => new pg.Client({ connectionString: real.settings.DATABASE_URL }));
    await Promise.all([database.connect(), locker.connect()]);
  });
  after(async () => {
    await Promise.all([database?.end(), locker?.end()]);
    await real?.close();
    if (directory) await rm(directory, { recursive: true });
  });

  const start = (host, settings) => {
    const all = {
      ...real.settings,
      ...NOTHING_BETWEEN,
      POSTGRES_DEADLINE_MS: "5000",
      VALKEY_DEADLINE_MS: "5000",
      ...settings,
    };
    return host === "native build" ? native({ ...all, SSL_CERT_FILE: join(directory, "roots.pem") }) : workerd(all, { roots: good.roots });
  };

  /** The URL of a store, with another port. */
  const through = (url, proxy, { host = "localhost", protocol, mode, user, secret } = {}) => {
    const changed = new URL(protocol ? url.replace(/^\w+:/, `${protocol}:`) : url);
    changed.hostname = host;
    changed.port = proxy.port;
    if (mode) changed.searchParams.set("sslmode", mode);
    if (user) changed.username = user;
    if (secret) changed.password = secret;
    return changed.href;
  };

  /** Runs with a proxy and an edge that reaches its store through it. */
  async function withEdge(host, store, options, work) {
    const { cert = good, answer, settings, ...url } = options;
    const name = store === "postgres" ? "DATABASE_URL" : "VALKEY_URL";
    const target = Number(new URL(real.settings[name]).port);
    const proxy = await tlsProxy(store, target, cert, { answer });
    let edge;
    try {
      edge = await start(host, { ...settings, [name]: through(real.settings[name], proxy, url) });
      const get = (path) => ask(edge, path, { within_ms: WITHIN_MS });
      const refused = async (path) => unavailable(await get(path), { status: 503, secrets: [password, "localhost", "127.0.0.1", String(proxy.port)] });
      await work({ proxy, edge, get, refused });
      assert.ok(!edge.log().includes(password), "the log has the password");
    } finally {
      await edge?.close();
      proxy.close();
    }
  }

  for (const host of HOSTS) {
    const verifies = host === "Wasm in workerd";
    describe(host, () => {
      for (const name of ["localhost", "127.0.0.1"]) {
        test(`PostgreSQL, verify-full, the right certificate for ${name}: rows`, () =>
          withEdge(host, "postgres", { mode: "verify-full", host: name }, async ({ proxy, edge, get }) => {
            const answer = await get(ROWS);
            assert.equal(answer.status, 200, `${answer.text}\n${edge.log()}`);
            assert.equal(answer.body.length, 2);
            const connections = proxy.taken();
            assert.equal(connections.length, 1);
            assert.ok(connections[0].secure);
            assert.equal(connections[0].raw.length, SSL_REQUEST_BYTES);
            assert.ok(connections[0].said.includes("FROM catalog"));
          }));

        test(`Valkey, valkeys://, the right certificate for ${name}: the value`, () =>
          // Rows that have no copies do not come by Valkey.
          withEdge(host, "valkey", { protocol: "valkeys", host: name, settings: { POLICY_PRODUCTS: "stale-if-error=1" } }, async ({ proxy, edge, get }) => {
            const stored = await ask(edge, VALUE, { method: "POST", json: { value: 7 }, within_ms: WITHIN_MS });
            assert.equal(stored.status, 200, `${stored.text}\n${edge.log()}`);
            assert.deepEqual((await get(VALUE)).body, { value: 7 });
            assert.equal((await get(ROWS)).status, 200);
            // A fourth one, which stores the rows, may be on its way.
            assert.ok(proxy.taken().filter(({ secure, said }) => secure && said.length > 0).length >= 3);
          }));
      }

      test("PostgreSQL, disable: rows, and no word of TLS", () =>
        withEdge(host, "postgres", { mode: "disable" }, async ({ proxy, edge, get }) => {
          assert.equal((await get(ROWS)).status, 200, edge.log());
          const [connection] = proxy.taken();
          assert.ok(!connection.secure && connection.raw.length > SSL_REQUEST_BYTES);
        }));

      test("PostgreSQL, require, the right certificate: rows", () =>
        withEdge(host, "postgres", { mode: "require" }, async ({ proxy, edge, get }) => {
          assert.equal((await get(ROWS)).status, 200, edge.log());
          assert.ok(proxy.taken().every(({ secure }) => secure));
        }));

      for (const which of [0, 1, 2]) {
        const label = ["of an unknown authority", "of another host", "that is expired"][which];
        const nothingSaid = (proxy) => {
          const connections = proxy.taken();
          assert.ok(connections.length > 0, "nobody connected");
          for (const { secure, said } of connections) assert.ok(!secure && said.length === 0, `said ${said}`);
        };

        test(`PostgreSQL, verify-full, a certificate ${label}: 503, and nothing was said`, () =>
          withEdge(host, "postgres", { mode: "verify-full", cert: bad[which][1] }, async ({ proxy, refused }) => {
            await refused(ROWS);
            nothingSaid(proxy);
          }));

        test(`Valkey, valkeys://, a certificate ${label}: 503, nothing was said, and rows come meanwhile`, () =>
          withEdge(host, "valkey", { protocol: "valkeys", cert: bad[which][1] }, async ({ proxy, get, refused }) => {
            await refused(VALUE);
            assert.equal((await get(ROWS)).status, 200);
            nothingSaid(proxy);
          }));

        test(
          verifies
            ? `PostgreSQL, require, a certificate ${label}: 503 as with verify-full, for a Worker's platform always verifies`
            : `PostgreSQL, require, a certificate ${label}: rows, for natively any certificate will do`,
          () =>
            withEdge(host, "postgres", { mode: "require", cert: bad[which][1] }, async ({ proxy, edge, get, refused }) => {
              if (verifies) {
                await refused(ROWS);
                return nothingSaid(proxy);
              }
              assert.equal((await get(ROWS)).status, 200, edge.log());
              assert.ok(proxy.taken().every(({ secure }) => secure));
            }),
        );
      }

      for (const mode of ["require", "verify-full"]) {
        for (const [label, answer] of [["has no TLS", "N"], ["says yes and more before TLS", "SR\0\0\0\x08\0\0\0\0"], ["answers with an error", "E"]]) {
          test(`PostgreSQL, ${mode}, a server that ${label}: 503, and only the SSLRequest left`, () =>
            withEdge(host, "postgres", { mode, answer }, async ({ proxy, refused }) => {
              await refused(ROWS);
              for (const { raw, secure, said } of proxy.taken()) {
                assert.ok(!secure && said.length === 0);
                assert.equal(raw.length, SSL_REQUEST_BYTES, `${raw}`);
              }
            }));
        }
      }

      test("Valkey, valkeys://, a server without TLS: 503 or 504", async () => {
        // The real one itself. It may wait for the end of what it takes for a line.
        const edge = await start(host, { VALKEY_URL: real.settings.VALKEY_URL.replace("valkey:", "valkeys:"), VALKEY_DEADLINE_MS: "500" });
        try {
          unavailable(await ask(edge, VALUE, { within_ms: WITHIN_MS }), { secrets: [password] });
          assert.equal((await ask(edge, ROWS, { within_ms: WITHIN_MS })).status, 200);
          assert.ok(!edge.log().includes(password));
        } finally {
          await edge.close();
        }
      });

      for (const mode of ["disable", "verify-full"]) {
        test(`a statement beyond the deadline is cancelled, sslmode ${mode}`, () =>
          withEdge(host, "postgres", { mode, settings: { POSTGRES_DEADLINE_MS: "600" } }, async ({ proxy, edge, get }) => {
            const waiting = async () => {
              const { rows } = await database.query("SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'shepherd-edge' AND wait_event_type = 'Lock'");
              return rows[0].count;
            };
            // Another connection's: within a transaction, what others do is looked up once.
            await locker.query("BEGIN");
            try {
              await locker.query("LOCK TABLE catalog IN ACCESS EXCLUSIVE MODE");
              let answer;
              const asked = get(ROWS).then((came) => (answer = came));
              while ((await waiting()) === 0) assert.equal(answer, undefined, `no backend waited: ${answer?.text}\n${edge.log()}`);
              await asked;
              assert.equal(answer.status, 504, answer.text);
              // The lock is still there, so only a cancel ends the wait.
              const began = performance.now();
              while ((await waiting()) > 0) assert.ok(performance.now() - began < 5_000, `the backend still waits\n${edge.log()}`);
            } finally {
              await locker.query("ROLLBACK");
            }
            const connections = proxy.taken();
            assert.equal(connections.length, 2);
            assert.ok(connections.every(({ secure }) => secure === (mode !== "disable")));
            assert.ok(connections[1].said.subarray(4, 8).equals(CANCEL));
            assert.equal((await get(ROWS)).status, 200);
            assert.ok(!edge.log().includes("cannot cancel"), edge.log());
          }));
      }

      test("PostgreSQL, a server that repeats the password it was given: 503, and it is in no log", async () => {
        const words = (severity, code) => errorResponse({ S: severity, V: severity, C: code, M: `no entry with ${password}` });
        const ends = [
          async (peer) => peer.send(words("FATAL", "28P01")),
          async (peer) => { await peer.send(LET_IN, KEY, READY); await statement(peer); await peer.send(words("ERROR", "XX000"), READY); },
          async (peer) => { await peer.send(LET_IN, KEY, READY); await statement(peer); await peer.send(words("FATAL", "57P01")); },
        ];
        const server = await scripted(() => {});
        let edge;
        try {
          edge = await start(host, { DATABASE_URL: through(real.settings.DATABASE_URL, server, { mode: "verify-full" }) });
          for (const end of ends) {
            let given;
            server.script = async (plain) => {
              await startup(plain);
              await plain.send("S");
              const peer = new Peer(new tls.TLSSocket(plain.socket, { isServer: true, cert: good.cert, key: good.key }));
              if ((await startup(peer)).subarray(0, 4).equals(CANCEL)) return;
              await peer.send(message("R", int32(3)));
              given = (await request(peer)).body.toString();
              await end(peer);
            };
            unavailable(await ask(edge, ROWS, { within_ms: WITHIN_MS }), { status: 503, secrets: [password] });
            assert.equal(given, `${password}\0`);
            assert.ok(!edge.log().includes(password), edge.log());
          }
          assert.deepEqual(server.failures, []);
        } finally {
          await edge?.close();
          server.close();
        }
      });

      describe("a server that asks for", () => {
        const secret = "a-password-of-its-own";
        const [clear, md5] = [`clear_${HOSTS.indexOf(host)}`, `md5_${HOSTS.indexOf(host)}`];
        before(async () => {
          // Rules of their own for two roles, before all others.
          const [{ hba_file: file }] = (await database.query("SHOW hba_file")).rows;
          await database.query(`CREATE ROLE ${clear} LOGIN PASSWORD '${secret}' IN ROLE pg_read_all_data`);
          await database.query(`SET password_encryption = 'md5'; CREATE ROLE ${md5} LOGIN PASSWORD '${secret}' IN ROLE pg_read_all_data; RESET password_encryption`);
          await writeFile(file, `host all ${clear} 127.0.0.1/32 password\nhost all ${md5} 127.0.0.1/32 md5\n${await readFile(file, "utf8")}`);
          await database.query("SELECT pg_reload_conf()");
          // Under the old rules the md5 role cannot log in.
          const url = new URL(real.settings.DATABASE_URL);
          url.username = md5;
          url.password = secret;
          for (const began = performance.now(); ;) {
            const client = new pg.Client({ connectionString: url.href });
            client.on("error", () => {});
            try {
              await client.connect();
              await client.end();
              break;
            } catch (error) {
              if (performance.now() - began > 10_000) throw error;
            }
          }
        });

        test("the password in clear text gets it over TLS", () =>
          withEdge(host, "postgres", { mode: "verify-full", user: clear, secret }, async ({ proxy, edge, get }) => {
            assert.equal((await get(ROWS)).status, 200, edge.log());
            const [connection] = proxy.taken();
            assert.ok(connection.secure && connection.said.includes(`p\0\0\0${String.fromCharCode(secret.length + 5)}${secret}\0`));
            assert.ok(!edge.log().includes(secret));
          }));

        test("the password in clear text does not get it without TLS: 503", () =>
          withEdge(host, "postgres", { mode: "disable", user: clear, secret }, async ({ proxy, edge, refused }) => {
            await refused(ROWS);
            for (const { said } of proxy.taken()) assert.ok(!said.includes(secret) && !said.includes("SELECT"));
            assert.match(edge.log(), /clear text on a connection without TLS/);
          }));

        for (const mode of ["disable", "verify-full"]) {
          test(`md5 gets the hash, sslmode ${mode}`, () =>
            withEdge(host, "postgres", { mode, user: md5, secret }, async ({ proxy, edge, get }) => {
              assert.equal((await get(ROWS)).status, 200, edge.log());
              const [connection] = proxy.taken();
              assert.ok(connection.said.includes("p\0\0\0\x28md5") && !connection.said.includes(secret));
            }));
        }

        test("a wrong password is told: 503", () =>
          withEdge(host, "postgres", { mode: "verify-full", user: clear, secret: "another-word" }, async ({ edge, refused }) => {
            await refused(ROWS);
            assert.match(edge.log(), /28P01/);
            assert.ok(!edge.log().includes("another-word"), edge.log());
          }));
      });
    });
  }
});
