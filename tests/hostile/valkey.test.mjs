// A server in Valkey's place that says what no Valkey says, or nothing, or no end of it. The edge
// answers in time, gives nothing away, serves PostgreSQL's rows meanwhile, and goes on in the
// same isolate as soon as the server behaves.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { NOTHING_BETWEEN, native, stores, workerd } from "../edge.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { LIMITS, ask, askOnceGood, counted, forgetPeak, memory, unavailable } from "../observe.mjs";
import { HELLO, bulk, passOn, scripted } from "../scripted.mjs";

const DEADLINE_MS = 500;
/** About an answer at all, on a busy machine: no benchmark. */
const WITHIN_MS = DEADLINE_MS + 10_000;
const MIB = 1024 * 1024;
/**
 * What a flight may cost beyond RESP_FLIGHT_BYTES_MAX: the slack of growing buffers, a copy on its
 * way and, in workerd, what was read and V8 has not collected yet, which it does at leisure here
 * and at 128 MB in production. A buffer that doubles at the limit takes twice as much beside what it
 * had, and the native allocator keeps what other requests gave back.
 */
const MARGIN_MIB = { "Wasm in workerd": 320, "native build": 96 };
/** How much the last rounds may take beyond the first ones: far less than the replies of one round each. */
const GROWTH_MIB = 128;
const { RESP_BULK_BYTES_MAX, RESP_DEPTH_MAX, RESP_ELEMENTS_MAX, RESP_FLIGHT_BYTES_MAX, RESP_LINE_BYTES_MAX } = LIMITS;

const KEY = "hostile";
const PATH = `/api/vultr/valkey/cache/${KEY}`;
const VALUE = '"the value"';
const OK = `${HELLO}${bulk(VALUE)}:-1\r\n`;
/** Text of the server's that no answer may repeat. */
const MARK = "xyzzy";
const noise = Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 7919 + (n >> 3)) & 0xff));

/** Waits for the request, then says all of this and goes on listening. */
const says = (...parts) => async (peer) => {
  await peer.some();
  await peer.send(...parts);
};
const saysAndCloses = (...parts) => async (peer) => {
  await says(...parts)(peer);
  peer.close();
};
const saysEndlessly = (start, ...parts) => async (peer) => {
  await says(start)(peer);
  await peer.endlessly(...parts);
};

/** Name, script, and the status where only one is right. Those of `ENDLESS` are repeated for the memory. */
const CASES = [
  ["a giant length", says(HELLO, "$9223372036854775807\r\n", "x"), 503],
  ["a length beyond 64 bits", says(HELLO, `$${"9".repeat(60)}\r\n`), 503],
  ["a giant length in the answer to HELLO", says("$2147483647\r\n", "x"), 503],
  ["a negative length", says(HELLO, "$-2\r\n"), 503],
  ["a negative count", says(HELLO, "*-2\r\n"), 503],
  ["a length with a sign", says(HELLO, "$+3\r\nabc\r\n"), 503],
  ["a length with zeros before it", says(HELLO, "$003\r\nabc\r\n"), 503],
  ["a value one byte over the limit, announced", says(HELLO, `$${RESP_BULK_BYTES_MAX + 1}\r\n`), 503],
  ["a line one byte over the limit", says(HELLO, `+${"a".repeat(RESP_LINE_BYTES_MAX)}\r\n`), 503],
  ["an error of 1 MiB in a line", says(HELLO, `-ERR ${MARK} ${"e".repeat(MIB)}\r\n`), 503],
  ["an error of 1 MiB with a length", says(HELLO, `!${MIB}\r\n`, "e".repeat(MIB), "\r\n"), 503],
  ["one element too many, announced", says(HELLO, `*${RESP_ELEMENTS_MAX + 1}\r\n`), 503],
  ["a billion elements, announced", says(HELLO, "*1000000000\r\n"), 503],
  ["many elements announced, none sent", says(HELLO, `*${RESP_ELEMENTS_MAX}\r\n`), 504],
  ["many aggregates of many elements, announced", says(HELLO, `*${RESP_ELEMENTS_MAX}\r\n`.repeat(RESP_DEPTH_MAX)), 504],
  ["nesting one too deep", says(HELLO, "*1\r\n".repeat(RESP_DEPTH_MAX + 1)), 503],
  ["nesting a hundred thousand deep", says(HELLO, "*1\r\n".repeat(100_000)), 503],
  ["nesting in the answer to HELLO", says("%1\r\n".repeat(100_000)), 503],
  ["a cut reply, then the end", saysAndCloses(HELLO, "$11\r\n\"the va"), 503],
  ["a cut reply, then silence", says(HELLO, "$11\r\n\"the va"), 504],
  ["a cut line, then silence", says(HELLO, "$11\r"), 504],
  ["one reply of two, then silence", says(HELLO, bulk(VALUE)), 504],
  ["replies in the wrong order", says(HELLO, ":-1\r\n", bulk(VALUE)), 503],
  ["the values before HELLO's answer", says(bulk(VALUE), ":-1\r\n", HELLO), 503],
  ["a reply before any command", async (peer) => { await peer.send("+OK\r\n"); await says(OK)(peer); }, 503],
  ["a value before any command", async (peer) => { await peer.send(bulk(VALUE)); await says(OK)(peer); }, 503],
  ["a push message within a reply", says(HELLO, "*2\r\n>1\r\n+a\r\n:1\r\n:1\r\n"), 503],
  ["streamed parts, which nobody asked for", says(HELLO, "$?\r\n;4\r\nabcd\r\n;0\r\n"), 503],
  ["a value with a wrong end", says(HELLO, "$3\r\nabcdef\r\n"), 503],
  ["noise", says(noise), 503],
  ["random bytes", says(HELLO, randomBytes(4096)), undefined],
  ["HTTP", says(`HTTP/1.1 400 Bad Request\r\nServer: ${MARK}\r\n\r\n`), 503],
  ["a greeting of SSH", async (peer) => { await peer.send(`SSH-2.0-${MARK}\r\n`); await peer.some(); }, 503],
  ["a TLS alert", saysAndCloses("\x15\x03\x01\x00\x02\x02\x46"), 503],
  ["binary zeros", says(Buffer.alloc(MIB)), 503],
  ["binary zeros after HELLO", says(HELLO, Buffer.alloc(MIB)), 503],
  ["a simple string that is not UTF-8", says(HELLO, "+\xff\xfe\r\n"), 503],
  ["an error that is not UTF-8", says(HELLO, `-\xff\xfe ${MARK} \xc3\x28\r\n`, ":-1\r\n"), 503],
  ["HELLO refused", says(`-WRONGPASS ${MARK}\r\n`, `-NOAUTH ${MARK}\r\n`.repeat(2)), 503],
  ["HELLO unknown and then NOAUTH without end", async (peer) => { for (;;) await says("-ERR unknown command\r\n", "-NOAUTH x\r\n-NOAUTH x\r\n")(peer); }, 503],
  ["errors instead of values", says(HELLO, `-LOADING ${MARK}\r\n-LOADING ${MARK}\r\n`), 503],
  ["a redirection", says(HELLO, `-MOVED 3999 ${MARK}:6381\r\n:-1\r\n`), 503],
  ["silence", () => {}, 504],
  ["silence after HELLO", says(HELLO), 504],
  ["the end at once", (peer) => peer.close(), 503],
  ["a reset at once", (peer) => peer.reset(), 503],
  ["a reset after the request", async (peer) => { await peer.some(); peer.reset(); }, 503],
  ["one byte at a time, beyond the deadline", async (peer) => { await peer.some(); await peer.dribble(OK.repeat(100), 15); }, 504],
];

const ENDLESS = [
  ["a value as long as a flight", says(HELLO, `%3\r\n`, ...Array(6).fill(bulk("x".repeat(RESP_BULK_BYTES_MAX)))), undefined],
  ["a line without end", saysEndlessly(`${HELLO}+`, "a"), 503],
  ["bytes without end and newline", saysEndlessly("", "a"), 503],
  ["an error without end", saysEndlessly(`${HELLO}-ERR `, "e"), 503],
  ["a number without end", saysEndlessly(`${HELLO}:`, "1"), 503],
  ["a length without end", saysEndlessly(`${HELLO}$`, "0"), 503],
  ["a value without end", saysEndlessly(`${HELLO}$${RESP_BULK_BYTES_MAX}\r\n`, "x"), undefined],
  ["elements without end", saysEndlessly(HELLO, `*${RESP_ELEMENTS_MAX}\r\n`, "_\r\n".repeat(RESP_ELEMENTS_MAX)), 503],
  ["empty elements in deep aggregates", saysEndlessly(`${HELLO}${`*${RESP_ELEMENTS_MAX}\r\n`.repeat(RESP_DEPTH_MAX - 1)}`, "*0\r\n"), undefined],
  ["attributes without end", saysEndlessly(HELLO, "|1\r\n+a\r\n+b\r\n"), undefined],
  ["empty attributes without end", saysEndlessly(HELLO, "|0\r\n"), undefined],
  ["push messages without end", saysEndlessly(HELLO, ">2\r\n+message\r\n+hello\r\n"), undefined],
  ["empty push messages before HELLO's answer", saysEndlessly("", ">0\r\n"), undefined],
  ["large push messages without end", saysEndlessly(HELLO, ">1\r\n", bulk("x".repeat(MIB))), undefined],
];

describe("a hostile server instead of Valkey", { concurrency: true }, () => {
  let real;
  before(async () => void (real = await stores()));
  after(() => real?.close());

  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, { concurrency: 1 }, () => {
      let server, edge, good, secrets, rows, fresh;
      before(async () => {
        const url = new URL(real.settings.VALKEY_URL);
        good = passOn(Number(url.port));
        server = await scripted(good);
        url.port = server.port;
        secrets = [url.password, "127.0.0.1", String(server.port), MARK];
        edge = await start({
          ...real.settings,
          VALKEY_URL: url.href,
          VALKEY_DEADLINE_MS: String(DEADLINE_MS),
          // Rows come also from an isolate that is busy reading without end.
          POSTGRES_DEADLINE_MS: "5000",
          ...NOTHING_BETWEEN,
          // Else nobody would ask for copies of rows.
          POLICY_PRODUCTS: "max-age=60",
        });
        const valkey = await connectValkey(real.settings.VALKEY_URL);
        await valkey.send("SET", KEY, VALUE);
        valkey.close();
        rows = await ask(edge, "/api/vultr/postgres/products?limit=2", { within_ms: 10_000 });
        assert.equal(rows.status, 200);
        assert.equal(rows.body.length, 2);
        fresh = memory(edge.pid).now;
      });
      after(async () => {
        await edge?.close();
        server?.close();
      });

      /** The server is good again: the same isolate reads the value, and nothing was given away. */
      async function goesOn(before_it) {
        server.script = good;
        const answer = await askOnceGood(edge, PATH, { within_ms: WITHIN_MS });
        assert.equal(answer.status, 200, `${answer.text}\n${edge.log()}`);
        assert.deepEqual(answer.body, { value: JSON.parse(VALUE) });
        assert.ok((await counted(edge, WITHIN_MS)) > before_it, "another isolate answers");
        assert.deepEqual(server.failures, []);
        assert.ok(!edge.log().includes(secrets[0]), "the log has the password");
      }

      for (const [name, script, status] of [...CASES, ...ENDLESS]) {
        test(name, async () => {
          const count = await counted(edge, WITHIN_MS);
          server.script = script;
          const [value, meanwhile] = await Promise.all([
            ask(edge, PATH, { within_ms: WITHIN_MS }),
            ask(edge, "/api/vultr/postgres/products?limit=2", { within_ms: WITHIN_MS }),
          ]);
          unavailable(value, { status, secrets });
          assert.equal(meanwhile.status, 200, `${meanwhile.text}\n${edge.log()}`);
          assert.equal(meanwhile.text, rows.text);
          assert.ok(await server.idle(), "the edge keeps the connection open");
          await goesOn(count);
        });
      }

      test("the right replies twice: the value, or none", async () => {
        const count = await counted(edge, WITHIN_MS);
        server.script = says(OK, OK.slice(HELLO.length));
        const answer = await ask(edge, PATH, { within_ms: WITHIN_MS });
        if (answer.status === 200) assert.deepEqual(answer.body, { value: JSON.parse(VALUE) });
        else unavailable(answer, { secrets });
        await goesOn(count);
      });

      test("writes and batches are not said to have happened", async () => {
        const count = await counted(edge, WITHIN_MS);
        const requests = [
          [PATH, { method: "POST", json: { value: 1 } }],
          [PATH, { method: "DELETE" }],
          ["/api/vultr/valkey/session/hostile", { method: "POST", json: { userId: "u" } }],
          ["/api/vultr/valkey/session/hostile/touch", { method: "POST" }],
          ["/api/vultr/valkey/batch", { method: "POST", json: { operations: [{ type: "get", key: KEY }, { type: "set", key: "other", value: 1 }] } }],
        ];
        for (const [script, status] of [[says(HELLO), 504], [saysAndCloses(HELLO, "+O"), 503], [says(HELLO, "*9999999\r\n"), 503], [says(HELLO, "$-2\r\n"), 503]]) {
          server.script = script;
          const answers = await Promise.all(requests.map(([path, options]) => ask(edge, path, { ...options, within_ms: WITHIN_MS })));
          for (const answer of answers) unavailable(answer, { status, secrets });
        }
        await goesOn(count);
      });

      test("a server that does not read a value of 9 MiB", async () => {
        const count = await counted(edge, WITHIN_MS);
        server.script = (peer) => void peer.socket.pause();
        const answer = await ask(edge, PATH, { method: "POST", json: { value: "v".repeat(9 * MIB) }, within_ms: WITHIN_MS });
        unavailable(answer, { status: 504, secrets });
        for (const { socket } of server.peers) socket.resume();
        assert.ok(await server.idle(), "the edge keeps the connection open");
        await goesOn(count);
      });

      test("the health route says so too", async () => {
        for (const [script, status] of [[() => {}, 503], [says("nonsense"), 503], [says(HELLO, `-ERR ${MARK}\r\n`), 503], [says(HELLO, ":1\r\n"), 503]]) {
          server.script = script;
          const answer = await ask(edge, "/api/vultr/valkey/health", { within_ms: WITHIN_MS });
          assert.equal(answer.status, status, answer.text);
          assert.equal(answer.body.status, "unhealthy");
          for (const secret of secrets) assert.ok(!answer.text.includes(secret), answer.text);
        }
        server.script = good;
      });

      test("a value of exactly the limit is read", async () => {
        const value = `"${"v".repeat(RESP_BULK_BYTES_MAX - 2)}"`;
        server.script = says(HELLO, bulk(value), ":-1\r\n");
        const answer = await ask(edge, PATH, { within_ms: 20_000 });
        // As large, it may also be too slow for the deadline of these tests.
        if (answer.status === 200) assert.ok(answer.text === `{"value":${value}}`);
        else unavailable(answer, { status: 504, secrets });
        server.script = good;
      });

      test("the connection ends at each byte of a right exchange", async () => {
        const count = await counted(edge, WITHIN_MS);
        const wrong = [];
        let bytes = 0;
        const one = async (_, n) => {
          for (let at = bytes++; at < OK.length; at = bytes++) {
            const answer = await ask(edge, `${PATH}-${n}`, { within_ms: WITHIN_MS });
            if (answer.status !== 503) wrong.push([at, answer.status, answer.text]);
          }
        };
        // A connection takes the next position, so that all are met whatever the order.
        let position = 0;
        server.script = async (peer) => {
          const at = position++ % OK.length;
          if (at % 2) peer.cut = peer.reset;
          if (at === 0) return peer.cut();
          peer.budget = at;
          await says(OK)(peer);
        };
        await Promise.all(Array.from({ length: 4 }, one));
        assert.deepEqual(wrong, []);
        assert.ok(position >= OK.length);
        server.script = async (peer) => {
          peer.budget = OK.length;
          await says(OK)(peer);
        };
        assert.deepEqual((await ask(edge, PATH, { within_ms: WITHIN_MS })).body, { value: JSON.parse(VALUE) });
        await goesOn(count);
      });

      test("the password is in no log when the server repeats it", async () => {
        const count = await counted(edge, WITHIN_MS);
        const password = secrets[0];
        for (const reply of [`-ERR ${password}\r\n`, `${HELLO}-ERR ${password}\r\n:1\r\n`, `-${password}\r\n`]) {
          server.script = says(reply);
          unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { status: 503, secrets });
        }
        await goesOn(count);
      });

      test("a server cannot write lines of its own into the log", async () => {
        server.script = says(HELLO, `!24\r\nERR a\nforged\r\n\x1b[2Kforged`, "\r\n:1\r\n");
        unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { status: 503, secrets });
        const lines = edge.log().split("\n").filter((line) => line.includes("forged"));
        assert.ok(lines.length > 0 && lines.every((line) => line.includes("Valkey cannot serve now: ERR a")), lines.join("\n"));
        assert.ok(lines.every((line) => !line.includes("\x1b[2K")), lines.join("\n"));
        server.script = good;
      });

      test("a copy of rows that is not as an edge filled it is not an answer", async () => {
        server.script = good;
        const all = (await ask(edge, "/api/vultr/postgres/products?limit=20", { within_ms: WITHIN_MS })).body;
        assert.deepEqual(all.slice(0, 2), rows.body);
        const others = "0123456789abcdef[]";
        for (const [at, copy] of ["xyzzy", "\0\0\0\0", "\xff\xfe", '{"open":', "[]", others].entries()) {
          // A list that nobody has read yet: of another one an isolate takes no older copy.
          const limit = at + 3;
          const bytes = Buffer.from(copy, "latin1");
          server.script = says(HELLO, "*4\r\n:0\r\n", `$${bytes.length}\r\n`, bytes, `\r\n:0\r\n:${Date.now()}\r\n`);
          const answer = await ask(edge, `/api/vultr/postgres/products?limit=${limit}`, { within_ms: WITHIN_MS });
          assert.equal(answer.status, 200, answer.text);
          assert.deepEqual(answer.body, all.slice(0, limit));
          // It was read, and only the copy in it was refused.
          assert.equal(answer.headers.get("cache-status"), "L2; fwd=miss, L1; fwd=miss");
        }
        server.script = good;
      });

      test(`what has no end is not kept, also when it comes 20 times`, async (context) => {
        const count = await counted(edge, WITHIN_MS);
        const peaks = [];
        const chosen = ENDLESS.filter(([name]) => /^(a value as long|elements|large push|attributes)/.test(name));
        assert.equal(chosen.length, 4);
        for (let round = 0; round < 20; round++) {
          forgetPeak(edge.pid);
          server.script = chosen[round % chosen.length][1];
          unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { secrets });
          peaks.push(Math.round(memory(edge.pid).peak));
        }
        context.diagnostic(`${host}: ${Math.round(fresh)} MiB when fresh, peaks of the rounds ${peaks.join(" ")}`);
        const most = fresh + RESP_FLIGHT_BYTES_MAX / MIB + MARGIN_MIB[host];
        assert.ok(Math.max(...peaks) <= most, `more than ${Math.round(most)} MiB: ${peaks}`);
        assert.ok(Math.max(...peaks.slice(-4)) <= Math.max(...peaks.slice(0, 8)) + GROWTH_MIB, `it grows from round to round: ${peaks}`);
        await goesOn(count);
      });
    });
  }
});
