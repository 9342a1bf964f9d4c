// A server in PostgreSQL's place that breaks the protocol, lies, or never ends. The edge answers
// in time, gives nothing away, serves Valkey's values meanwhile, and goes on in the same isolate
// as soon as the server behaves.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { NOTHING_BETWEEN, native, stores, workerd } from "../edge.mjs";
import { connectValkey } from "../http/valkey.mjs";
import { LIMITS, ask, askOnceGood, counted, forgetPeak, memory, unavailable } from "../observe.mjs";
import {
  BOUND, KEY, LET_IN, OID, PARSED, READY, SELECTED,
  dataRow, errorResponse, int32, letIn, message, notice, parameter, passOn, request, rowDescription, scram, scripted, startup, statement,
} from "../scripted.mjs";

const DEADLINE_MS = 500;
/** About an answer at all, on a busy machine: no benchmark. */
const WITHIN_MS = DEADLINE_MS + 10_000;
const MIB = 1024 * 1024;
const { PG_COLUMNS_MAX, PG_MESSAGE_BYTES_MAX, PG_RESULT_BYTES_MAX, PG_STARTUP_MESSAGES_MAX, SCRAM_ITERATIONS_MAX } = LIMITS;
/**
 * What an answer may cost beyond PG_RESULT_BYTES_MAX: the message it comes in, its JSON, the
 * slack of growing buffers and, in workerd, what V8 has not collected yet, which it does at
 * leisure here and at 128 MB in production.
 */
const MARGIN_MIB = { "Wasm in workerd": 360, "native build": 160 };
/** How much the last rounds may take beyond the first ones: far less than the answers of one round each. */
const GROWTH_MIB = 128;

const PATH = "/api/vultr/postgres/products?category=hostile";
const VALKEY_PATH = "/api/vultr/valkey/cache/hostile";
const VALUE = '"the value"';
/** Text of the server's that no answer may repeat. */
const MARK = "xyzzy";
const COLUMNS = [["id", OID.text]];
const ROW = dataRow(["observed"]);
const RIGHT = [PARSED, BOUND, rowDescription(COLUMNS), ROW, SELECTED, READY];
const ANSWER = '[{"id":"observed"}]';

/** Says this instead of any answer to the StartupMessage. */
const opens = (...parts) => async (peer) => {
  await startup(peer);
  await peer.send(...parts);
};
/** Lets the client in and says this as the answer to its statement. */
const answers = (...parts) => async (peer) => {
  await letIn(peer);
  await peer.send(...parts);
};
const answersEndlessly = (start, ...parts) => async (peer) => {
  await answers(...start)(peer);
  await peer.endlessly(...parts);
};
const opensEndlessly = (start, ...parts) => async (peer) => {
  await opens(...start)(peer);
  await peer.endlessly(...parts);
};
const thenEnds = (script) => async (peer) => {
  await script(peer);
  peer.close();
};
const described = (columns = COLUMNS) => [PARSED, BOUND, rowDescription(columns)];
const field = (oid, value) => answers(...described([["id", oid]]), dataRow([value]), SELECTED, READY);
const sql = (code, words, severity = "ERROR") => errorResponse({ S: severity, V: severity, C: code, M: words });
const noise = Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 7919 + (n >> 3)) & 0xff));

/** Name, script, and the status where only one is right. */
const CASES = [
  ["a giant length at the start", opens(message("R", "", 0x7fffffff)), 503],
  ["a negative length at the start", opens(message("R", "", -1)), 503],
  ["a length of 3", opens(message("R", "", 3)), 503],
  ["a length of 0", answers(message("1", "", 0)), 503],
  ["a giant length in an answer", answers(PARSED, BOUND, message("T", "", 0x7fffffff)), 503],
  ["a negative length in an answer", answers(...described(), message("D", "", 0x80000000)), 503],
  ["a message one byte over the limit, announced", answers(...described(), message("D", "", PG_MESSAGE_BYTES_MAX)), 503],
  ["one column too many", answers(...described(Array(PG_COLUMNS_MAX + 1).fill(["c", OID.text]))), 503],
  ["65535 columns announced, one sent", answers(PARSED, BOUND, rowDescription(COLUMNS, 65_535)), 503],
  ["32767 fields announced, one sent", answers(...described(), dataRow(["a"], 32_767), SELECTED, READY), 503],
  ["a field longer than its row", answers(...described(), message("D", Buffer.concat([Buffer.from([0, 1]), int32(1000), Buffer.from("a")])), SELECTED, READY), 503],
  ["a field of a negative length", answers(...described(), message("D", Buffer.concat([Buffer.from([0, 1]), int32(-2), Buffer.from("a")])), SELECTED, READY), 503],
  ["one message too many before ready", opens(LET_IN, ...Array(PG_STARTUP_MESSAGES_MAX + 1).fill(parameter("a", "b"))), 503],
  ["a cut answer, then the end", thenEnds(answers(...described(), ROW.subarray(0, 9))), 503],
  ["a cut answer, then silence", answers(...described(), ROW.subarray(0, 9)), 504],
  ["rows, but no end of the command", answers(...described(), ROW), 504],
  ["everything but ready", answers(...RIGHT.slice(0, -1)), 504],
  ["JSON nested a hundred thousand deep, not closed", field(OID.jsonb, "[".repeat(100_000)), 503],
  ["a jsonb that is no JSON", field(OID.jsonb, MARK), 503],
  ["a number that is none", field(OID.numeric, `1,${MARK}`), 503],
  ["a boolean that is none", field(OID.bool, "yes"), 503],
  ["a field that is not UTF-8", field(OID.text, "\xff\xfe"), 503],
  ["a column name that is not UTF-8", answers(...described([["\xff\xfe", OID.text]]), ROW, SELECTED, READY), 503],
  ["a command tag that is not UTF-8", answers(...described(), ROW, message("C", "\xff\0"), READY), 503],
  ["a name without its end", answers(PARSED, BOUND, message("T", Buffer.from([0, 1, 97, 97, 97]))), 503],
  ["a row before its description", answers(PARSED, BOUND, ROW, SELECTED, READY), 503],
  ["the end of the command first", answers(SELECTED, READY), 503],
  ["bound before parsed", answers(BOUND, PARSED, rowDescription(COLUMNS), ROW, SELECTED, READY), 503],
  ["ready, and no answer", answers(READY), 503],
  ["two descriptions", answers(...described(), rowDescription(COLUMNS), ROW, SELECTED, READY), 503],
  ["a copy, which nobody asked for", answers(PARSED, BOUND, message("G", Buffer.from([0, 0, 0]))), 503],
  ["an unknown message", answers(message("x")), 503],
  ["a request for a password after the log-in", answers(message("R", int32(3))), 503],
  ["everything before the client said a word", async (peer) => { await peer.send(LET_IN, KEY, READY, ...RIGHT); await startup(peer); }, 503],
  ["an answer together with the log-in", opens(LET_IN, KEY, READY, ...RIGHT), 503],
  ["no log-in at all", opens(...RIGHT), 503],
  ["noise", opens(noise), 503],
  ["noise as an answer", answers(noise), 503],
  ["HTTP", opens(`HTTP/1.1 400 Bad Request\r\nServer: ${MARK}\r\n\r\n`), 503],
  ["a TLS alert", opens("\x15\x03\x01\x00\x02\x02\x46"), 503],
  ["binary zeros", opens(Buffer.alloc(MIB)), 503],
  ["binary zeros as an answer", answers(PARSED, Buffer.alloc(MIB)), 503],
  ["silence", () => {}, 504],
  ["silence after the log-in", letIn, 504],
  ["silence before ready", opens(LET_IN, KEY), 504],
  ["the end at once", (peer) => peer.close(), 503],
  ["a reset at once", (peer) => peer.reset(), 503],
  ["a reset after the statement", async (peer) => { await letIn(peer); peer.reset(); }, 503],
  ["an error of 1 MiB instead of the log-in", opens(sql("XX000", MARK + "e".repeat(MIB))), 503],
  ["an error of 1 MiB as an answer", answers(sql("XX000", MARK + "e".repeat(MIB)), READY), 503],
  ["an error with 1 MiB of a wrong code", answers(sql("X".repeat(MIB), MARK), READY), 503],
  ["an error that is not UTF-8", answers(sql("XX000", `${MARK}\xff\xfe`), READY), 503],
  ["an error without its end", answers(message("E", "SERROR")), 503],
  ["an error without ready", answers(sql("XX000", MARK)), 504],
  ["errors after an error", answers(sql("XX000", MARK), sql("XX001", MARK), READY), 503],
  ["shut down instead of an answer", thenEnds(answers(sql("57P01", MARK, "FATAL"))), 503],
  ["too many connections", thenEnds(opens(sql("53300", MARK, "FATAL"))), 503],
  ["an unknown database", thenEnds(opens(sql("3D000", MARK, "FATAL"))), 503],
  ["one byte at a time, beyond the deadline", async (peer) => { await letIn(peer); await peer.dribble(Buffer.concat(RIGHT.slice(0, 2).concat(Array(20).fill(notice(MARK)))), 20); }, 504],
  // SCRAM
  ["a wrong signature", (peer) => scram(peer, { final: () => `v=${Buffer.alloc(32, 7).toString("base64")}` }), 503],
  ["a signature of nonsense", (peer) => scram(peer, { final: () => "v=***" }), 503],
  ["a refusal instead of a signature", (peer) => scram(peer, { final: () => `e=${MARK}` }), 503],
  ["let in without a signature", async (peer) => { const { send } = peer; let sent = 0; peer.send = (...parts) => send.call(peer, ...(++sent === 3 ? [LET_IN, KEY, READY] : parts)); await scram(peer); }, 503],
  ["SCRAM with four billion iterations", (peer) => scram(peer, { first: (text) => text.replace(/i=.*/, "i=4294967295") }), 503],
  ["SCRAM with one iteration too many", (peer) => scram(peer, { first: (text) => text.replace(/i=.*/, `i=${SCRAM_ITERATIONS_MAX + 1}`) }), 503],
  ["SCRAM with more iterations than a number holds", (peer) => scram(peer, { first: (text) => text.replace(/i=.*/, `i=${"9".repeat(40)}`) }), 503],
  ["SCRAM without iterations", (peer) => scram(peer, { first: (text) => text.replace(/i=.*/, "i=0") }), 503],
  ["SCRAM with a nonce that is not ours", (peer) => scram(peer, { first: (text) => text.replace(/r=[^,]*/, "r=another") }), 503],
  ["SCRAM with an extension", (peer) => scram(peer, { first: (text) => `m=x,${text}` }), 503],
  ["SCRAM with a wrong salt", (peer) => scram(peer, { first: (text) => text.replace(/s=[^,]*/, "s=***") }), 503],
  ["no mechanism that we know", opens(message("R", Buffer.concat([int32(10), Buffer.from("SCRAM-SHA-256-PLUS\0\0")]))), 503],
  ["mechanisms without an end", opens(message("R", Buffer.concat([int32(10), Buffer.alloc(MIB, 97)]))), 503],
  ["Kerberos", opens(message("R", int32(2))), 503],
  ["a request for the password in clear text, without TLS", opens(message("R", int32(3))), 503],
  ["md5 without a salt", opens(message("R", int32(5))), 503],
];

const ENDLESS = [
  ["rows without end", answersEndlessly(described(), ROW)],
  ["rows without fields, without end", answersEndlessly(described([]), dataRow([]))],
  ["rows of NULL without end", answersEndlessly(described(Array(PG_COLUMNS_MAX).fill(["c", OID.text])), dataRow(Array(PG_COLUMNS_MAX).fill(null)))],
  ["notices without end", answersEndlessly([PARSED], notice(MARK))],
  ["large notices without end", answersEndlessly([PARSED], notice("n".repeat(MIB)))],
  ["notices before ready, without end", opensEndlessly([LET_IN], notice(MARK))],
  ["large notices before the log-in, without end", opensEndlessly([], notice("n".repeat(MIB)))],
  ["parameters without end", answersEndlessly([], parameter("a", "b"))],
  ["notifications without end", answersEndlessly([PARSED], message("A", Buffer.concat([int32(1), Buffer.from("channel\0payload\0")])))],
  ["errors without end", answersEndlessly([], sql("XX000", MARK))],
  ["a message without end", answersEndlessly([...described(), message("D", "", PG_MESSAGE_BYTES_MAX - 1)], "a")],
  ["bytes without end or meaning", opensEndlessly([], "a")],
  ["an error as long as a message", answers(sql("XX000", "e".repeat(PG_MESSAGE_BYTES_MAX - 100)), READY)],
  ["a column name as long as a message", answers(...described([["\x01".repeat(PG_MESSAGE_BYTES_MAX - 100), OID.text]]), ...Array(64).fill(dataRow([null])), SELECTED, READY)],
  ["a field that escapes make six times as long", answers(...described(), dataRow(["\x01".repeat(PG_MESSAGE_BYTES_MAX - 100)]), SELECTED, READY)],
];

describe("a hostile server instead of PostgreSQL", { concurrency: true }, () => {
  let real;
  before(async () => {
    real = await stores();
    // Fewer iterations for the many log-ins to the real one; PostgreSQL before 16 has no choice.
    const client = new pg.Client({ connectionString: real.settings.DATABASE_URL });
    await client.connect();
    const { username, password } = new URL(real.settings.DATABASE_URL);
    const [{ setting }] = (await client.query("SELECT current_setting('scram_iterations', true) AS setting")).rows;
    if (setting) await client.query(`SET scram_iterations = 1; ALTER ROLE ${username} PASSWORD '${password}'`);
    await client.end();
  });
  after(() => real?.close());

  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, { concurrency: 1 }, () => {
      let server, edge, good, settings, secrets, fresh;
      before(async () => {
        const url = new URL(real.settings.DATABASE_URL);
        good = passOn(Number(url.port));
        server = await scripted(good);
        url.port = server.port;
        secrets = [url.password, "127.0.0.1", String(server.port), MARK];
        settings = {
          ...real.settings,
          DATABASE_URL: url.href,
          POSTGRES_DEADLINE_MS: String(DEADLINE_MS),
          VALKEY_DEADLINE_MS: "5000",
          ...NOTHING_BETWEEN,
        };
        edge = await start(settings);
        const valkey = await connectValkey(real.settings.VALKEY_URL);
        await valkey.send("SET", "hostile", VALUE);
        valkey.close();
        await goesOn(-1);
        fresh = memory(edge.pid).now;
      });
      after(async () => {
        await edge?.close();
        server?.close();
      });

      /** The server is good again: the same isolate reads rows, and nothing was given away. */
      async function goesOn(before_it) {
        server.script = good;
        const answer = await askOnceGood(edge, "/api/vultr/postgres/products?limit=2", { within_ms: WITHIN_MS });
        assert.equal(answer.status, 200, `${answer.text}\n${edge.log()}`);
        assert.equal(answer.body.length, 2);
        assert.ok((await counted(edge, WITHIN_MS)) > before_it, "another isolate answers");
        assert.deepEqual(server.failures, []);
        assert.ok(!edge.log().includes(secrets[0]), "the log has the password");
        for (const peer of server.peers.splice(0)) assert.ok(!peer.received.includes(secrets[0]), "the password was sent");
      }

      for (const [name, script, status] of [...CASES, ...ENDLESS]) {
        test(name, async () => {
          const count = await counted(edge, WITHIN_MS);
          server.script = script;
          const [rows, meanwhile] = await Promise.all([ask(edge, PATH, { within_ms: WITHIN_MS }), ask(edge, VALKEY_PATH, { within_ms: WITHIN_MS })]);
          unavailable(rows, { status, secrets });
          assert.equal(meanwhile.status, 200, `${meanwhile.text}\n${edge.log()}`);
          assert.deepEqual(meanwhile.body, { value: JSON.parse(VALUE) });
          assert.ok(await server.idle(), "the edge keeps the connection open");
          await goesOn(count);
        });
      }

      test("the right answer: the rows", async () => {
        for (const script of [answers(...RIGHT), async (peer) => { await scram(peer, { password: secrets[0] }); await peer.send(LET_IN, KEY, READY); await statement(peer); await peer.send(...RIGHT); }]) {
          server.script = script;
          const answer = await ask(edge, PATH, { within_ms: WITHIN_MS });
          assert.equal(answer.text, ANSWER, edge.log());
        }
        await goesOn(0);
      });

      test("the right answer twice, or followed by words without end: the rows, or none", async () => {
        for (const script of [answers(...RIGHT, ...RIGHT), answersEndlessly(RIGHT, READY)]) {
          server.script = script;
          const answer = await ask(edge, PATH, { within_ms: WITHIN_MS });
          if (answer.status === 200) assert.equal(answer.text, ANSWER);
          else unavailable(answer, { secrets });
          assert.ok(await server.idle(), "the edge keeps the connection open");
        }
        await goesOn(0);
      });

      test("as many SCRAM iterations as allowed", async (context) => {
        server.script = async (peer) => { await scram(peer, { password: secrets[0], iterations: SCRAM_ITERATIONS_MAX }); await peer.send(LET_IN, KEY, READY); await statement(peer); await peer.send(...RIGHT); };
        const answer = await ask(edge, PATH, { within_ms: WITHIN_MS });
        context.diagnostic(`${host}: ${answer.status} after ${Math.round(answer.took_ms)} ms`);
        // Their price is CPU time, which also counts against the deadline.
        if (answer.status === 200) assert.equal(answer.text, ANSWER);
        else unavailable(answer, { status: 504, secrets });
        await goesOn(0);
      });

      test("writes are not said to have happened", async () => {
        const profile = ["/api/vultr/postgres/users/hostile/profile", { method: "POST", json: { preferences: { a: 1 } } }];
        const order = ["/api/vultr/postgres/orders", { method: "POST", json: { user_id: "hostile", items: [{ product_id: "p", quantity: 1, price: 9.5 }], total_amount: 9.5 } }];
        for (const [script, status] of [[letIn, 504], [thenEnds(answers(PARSED, BOUND)), 503], [answers(SELECTED, READY), 503], [answers(PARSED, BOUND, message("n"), message("C", "INSERT 0 1\0")), 504], [thenEnds(answers(sql("40001", MARK), READY)), 503]]) {
          server.script = script;
          for (const [path, options] of [profile, order]) unavailable(await ask(edge, path, { ...options, within_ms: WITHIN_MS }), { status, secrets });
        }
        await goesOn(0);
      });

      test("a first save that another one overtakes is made again, once", async () => {
        const columns = ["user_id", "email", "first_name", "last_name", "preferences", "body_measurements", "created_at", "updated_at"];
        const saved = [
          ...described(columns.map((name) => [name, name === "preferences" || name === "body_measurements" ? OID.jsonb : OID.text])),
          dataRow(["hostile", "h@users.invalid", null, null, '{"a": 1}', "{}", "2026-01-01", "2026-01-01"]), SELECTED, READY,
        ];
        const taken = [sql("23505", "duplicate key value violates unique constraint"), READY];
        for (const [turns, status] of [[[taken, saved], 200], [[taken, taken], 409]]) {
          let turn = 0;
          server.script = (peer) => answers(...turns[Math.min(turn++, turns.length - 1)])(peer);
          const answer = await ask(edge, "/api/vultr/postgres/users/hostile/profile", { method: "POST", json: { preferences: { a: 1 } }, within_ms: WITHIN_MS });
          assert.deepEqual([answer.status, turn], [status, 2], answer.text);
        }
        await goesOn(0);
      });

      test("the health route says so too", async () => {
        for (const script of [() => {}, opens(noise), answers(sql("XX000", MARK), READY)]) {
          server.script = script;
          const answer = await ask(edge, "/api/vultr/postgres/health", { within_ms: WITHIN_MS });
          assert.equal(answer.status, 503, answer.text);
          assert.equal(answer.body.status, "unhealthy");
          for (const secret of secrets) assert.ok(!answer.text.includes(secret), answer.text);
        }
        await goesOn(0);
      });

      test("a server cannot write lines of its own into the log", async () => {
        server.script = answers(sql("XX000", "a\nforged\r\n\x1b[2Kforged"), READY);
        unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { status: 503, secrets });
        const lines = edge.log().split("\n").filter((line) => line.includes("forged"));
        assert.ok(lines.length > 0 && lines.every((line) => line.includes("SQLSTATE XX000")), lines.join("\n"));
        assert.ok(lines.every((line) => !line.includes("\x1b[2K")), lines.join("\n"));
        await goesOn(0);
      });

      test("a CancelRequest is not believed to have an end either", async () => {
        let cancels = 0;
        server.script = async (peer) => {
          const first = await startup(peer);
          if (first.readUInt32BE() === 80877102) {
            cancels += 1;
            assert.deepEqual(first.subarray(4), KEY.subarray(5));
            await peer.endlessly("a");
          }
          await peer.send(LET_IN, KEY, READY);
          await statement(peer);
        };
        unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { status: 504, secrets });
        assert.ok(await server.idle(), "the edge keeps the connection open");
        while (cancels === 0 && server.peers.length < 2) await new Promise(setImmediate);
        assert.ok(await server.idle(), "the edge keeps the connection open");
        assert.equal(cancels, 1);
        await goesOn(0);
      });

      test("the connection ends at each byte of a right exchange", async () => {
        const password = secrets[0];
        const exchange = async (peer) => {
          // Few iterations, for many connections.
          await scram(peer, { password, iterations: 1 });
          await peer.send(LET_IN, KEY, READY);
          await statement(peer);
          await peer.send(...RIGHT);
        };
        let length = 0;
        server.script = async (peer) => {
          const { send } = peer;
          peer.send = (...parts) => {
            length += Buffer.concat(parts.map((part) => Buffer.from(part, "latin1"))).length;
            return send.apply(peer, parts);
          };
          await exchange(peer);
        };
        assert.equal((await ask(edge, PATH, { within_ms: WITHIN_MS })).text, ANSWER);
        assert.ok(length > 200);
        const wrong = [];
        // A connection takes the next position; each request tries twice.
        let position = 0;
        server.script = async (peer) => {
          const at = position++ % length;
          if (at % 2) peer.cut = peer.reset;
          if (at === 0) return peer.cut();
          peer.budget = at;
          await exchange(peer);
        };
        // Each its own: requests for one thing would share one load.
        const one = async (_, n) => {
          while (position < length) {
            const answer = await ask(edge, `${PATH}&limit=${n}`, { within_ms: WITHIN_MS });
            if (answer.status !== 503 && answer.status !== 504) wrong.push([position, answer.status, answer.text]);
          }
        };
        await Promise.all(Array.from({ length: 4 }, one));
        assert.deepEqual(wrong, []);
        await goesOn(0);
      });

      test("what has no end is not kept, also when it comes 20 times", async (context) => {
        const count = await counted(edge, WITHIN_MS);
        const chosen = ENDLESS.filter(([name]) => /^(rows without fields|rows of NULL|a column name|a field that)/.test(name));
        const peaks = [];
        for (let round = 0; round < 20; round++) {
          forgetPeak(edge.pid);
          server.script = chosen[round % chosen.length][1];
          unavailable(await ask(edge, PATH, { within_ms: WITHIN_MS }), { secrets });
          peaks.push(Math.round(memory(edge.pid).peak));
        }
        context.diagnostic(`${host}: ${Math.round(fresh)} MiB when fresh, peaks of the rounds ${peaks.join(" ")}`);
        const most = fresh + PG_RESULT_BYTES_MAX / MIB + MARGIN_MIB[host];
        assert.ok(Math.max(...peaks) <= most, `more than ${Math.round(most)} MiB: ${peaks}`);
        assert.ok(Math.max(...peaks.slice(-4)) <= Math.max(...peaks.slice(0, 8)) + GROWTH_MIB, `it grows from round to round: ${peaks}`);
        await goesOn(count);
      });

      describe("on the way into TLS", () => {
        const WAYS = [
          ["silence", () => {}, 504],
          ["yes, then the end", thenEnds(opens("S")), 503],
          ["yes, then a reset", async (peer) => { await opens("S")(peer); peer.reset(); }, 503],
          ["yes, then silence", opens("S"), 504],
          ["yes, then noise", async (peer) => { await opens("S")(peer); await peer.some(); await peer.send(noise); }, 503],
          ["yes, then zeros without end", async (peer) => { await opens("S")(peer); await peer.some(); await peer.endlessly(Buffer.alloc(1000)); }, 503],
          ["yes, then an alert", async (peer) => { await opens("S")(peer); await peer.some(); await peer.send("\x15\x03\x01\x00\x02\x02\x28"); peer.close(); }, 503],
          ["yes, then a record of TLS that does not end", async (peer) => { await opens("S")(peer); await peer.some(); await peer.send("\x16\x03\x03\x40\x00\x02"); }, 504],
          ["yes, and a word before TLS", opens("S", LET_IN, READY), 503],
          ["no", opens("N"), 503],
          ["no, and a log-in without TLS", opens("N", LET_IN, READY), 503],
          ["an error", opens(sql("XX000", MARK)), 503],
          ["what is no answer", opens("X"), 503],
          ["yes without end", opensEndlessly([], "S"), 503],
          ["the end", (peer) => peer.close(), 503],
        ];
        const modes = host === "native build" ? ["require", "verify-full"] : ["verify-full"];
        for (const mode of modes) {
          test(mode, async (context) => {
            const url = new URL(settings.DATABASE_URL);
            url.searchParams.set("sslmode", mode);
            const tls = await start({ ...settings, DATABASE_URL: url.href });
            try {
              for (const [name, script, status] of WAYS) {
                await context.test(name, async () => {
                  server.script = script;
                  server.peers.length = 0;
                  unavailable(await ask(tls, PATH, { within_ms: WITHIN_MS }), { status, secrets });
                  assert.ok(await server.idle(), "the edge keeps the connection open");
                  for (const { received } of server.peers) {
                    for (const word of [secrets[0], "SELECT", url.username]) assert.ok(!received.includes(word), `${word} was sent without TLS`);
                  }
                  // The isolate is well, though its PostgreSQL is not.
                  assert.equal((await ask(tls, VALKEY_PATH, { within_ms: WITHIN_MS })).status, 200, tls.log());
                  assert.ok(!tls.log().includes(secrets[0]));
                  assert.ok(!/panicked|unreachable executed/.test(tls.log()), tls.log());
                });
              }
              assert.deepEqual(server.failures, []);
            } finally {
              await tls.close();
            }
          });
        }
      });
    });
  }
});
