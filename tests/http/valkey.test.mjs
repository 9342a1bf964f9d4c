// Every rule of the contract's section 3 (sessions, typed caches, generic keys, batch, metrics)
// and what section 1 and 4 say about them. Each test uses ids of its own, so the store may be
// shared and dirty. One isolate is assumed where a test reads its own writes.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  PG,
  VK,
  aboutNow,
  ageOf,
  answeredBy,
  call,
  del,
  get,
  missing,
  needsBoth,
  needsValkey,
  not5xx,
  ok,
  openPostgres,
  okAnswer,
  openValkey,
  poll,
  post,
  postText,
  rawRequest,
  refused,
  uid,
} from "./client.mjs";

const DAY_S = 86_400;
const YEAR_S = 31_536_000;
const BEHIND_THE_EDGE_MS = 6_000; // L1 lives at most 5 s
const INTERNAL = "shepherd-edge:";

let valkey;
before(async () => void (valkey = await openValkey()));
after(() => valkey?.close());

const cache = (key) => `${VK}/cache/${key}`;
const session = (id) => `${VK}/session/${id}`;
const batch = async (...operations) => ok(await post(`${VK}/batch`, { operations })).results;
const ttlOf = (key) => valkey.send("TTL", key);
const textOf = (key) => valkey.send("GET", key);

/** Asserts that a key's remaining time to live is what was just set. */
async function ttlIs(key, seconds) {
  const left = await ttlOf(key);
  assert.ok(left <= seconds && left > seconds - 20, `TTL of ${key}: ${left}, expected ${seconds}`);
}

/**
 * The five ways to store a value. `wrap` makes the request body from JSON texts, `stored` the text that
 * Valkey must hold, `answer` the text that GET must give.
 */
const withTtl = (fields, ttl) => `{${[...fields, ...(ttl === undefined ? [] : [`"ttl":${ttl}`])].join(",")}}`;
const KINDS = [
  {
    name: "session",
    path: session,
    key: (id) => `session:${id}`,
    ttl: DAY_S,
    wrap: (value, ttl) => withTtl([`"data":${value}`], ttl),
    stored: (value, ttl) => withTtl([`"data":${value}`], ttl),
    answer: (value, ttl) => withTtl([`"data":${value}`], ttl),
  },
  {
    name: "conversation",
    path: (id) => cache(`conversation/${id}`),
    key: (id) => `conversation:${id}`,
    ttl: 3600,
    wrap: (value, ttl) => withTtl([`"context":${value}`], ttl),
    stored: (value) => `{"context":${value}}`,
    answer: (value) => `{"context":${value}}`,
  },
  {
    name: "recommendations",
    path: (id) => cache(`recommendations/${id}`),
    key: (id) => `recommendations:${id}`,
    ttl: 1800,
    wrap: (value, ttl) => withTtl([`"recommendations":${value}`], ttl),
    stored: (value) => value,
    answer: (value) => `{"recommendations":${value}}`,
  },
  {
    name: "preferences",
    path: (id) => cache(`preferences/${id}`),
    key: (id) => `preferences:${id}`,
    ttl: 3600,
    wrap: (value, ttl) => withTtl([`"preferences":${value}`], ttl),
    stored: (value) => value,
    answer: (value) => `{"preferences":${value}}`,
  },
  {
    name: "generic",
    path: cache,
    key: (id) => id,
    ttl: undefined,
    wrap: (value, ttl) => withTtl([`"value":${value}`], ttl),
    stored: (value) => value,
    answer: (value) => `{"value":${value}}`,
  },
];
const store = async (kind, id, value, ttl) => assert.deepEqual(ok(await postText(kind.path(id), kind.wrap(value, ttl))), { success: true });
const reads = async (kind, id, value, ttl) => assert.equal((await get(kind.path(id))).text, kind.answer(value, ttl));

// ---------------------------------------------------------------- every kind of value

for (const kind of KINDS) {
  describe(`${kind.name}:`, () => {
    test("a missing value is 404 with an error string", async () => missing(await get(kind.path(uid()))));

    test("POST answers {success:true}, GET the bare shape without an envelope", async () => {
      const id = uid();
      await store(kind, id, '{"a":[1,"x",null]}');
      ok(await get(kind.path(id)));
      await reads(kind, id, '{"a":[1,"x",null]}');
    });

    test("writing again replaces everything, nothing is merged", async () => {
      const id = uid();
      await store(kind, id, '{"old":1,"both":1}');
      await store(kind, id, '{"both":2}');
      await reads(kind, id, '{"both":2}');
    });

    test("the same isolate reads its own writes and deletes at once, remembered misses included", async () => {
      const id = uid();
      missing(await get(kind.path(id)));
      for (let round = 0; round < 5; round++) {
        await store(kind, id, `"round ${round}"`);
        await reads(kind, id, `"round ${round}"`);
        await store(kind, id, `"again ${round}"`);
        await reads(kind, id, `"again ${round}"`);
        assert.deepEqual(ok(await del(kind.path(id))), { success: true });
        missing(await get(kind.path(id)));
      }
    });

    test("DELETE gives {success:true} when there was something, else {success:false}, both with 200", async () => {
      const id = uid();
      assert.deepEqual(ok(await del(kind.path(id))), { success: false });
      await store(kind, id, "1");
      assert.deepEqual(ok(await del(kind.path(id))), { success: true });
      assert.deepEqual(ok(await del(kind.path(id))), { success: false });
    });

    test("user data with envelope-like names comes back untouched", async () => {
      const id = uid();
      const value = '{"success":false,"error":"mine","data":{"value":1},"value":2,"ttl":-3,"requestId":"r","timestamp":0}';
      await store(kind, id, value);
      await reads(kind, id, value);
    });

    test("values are kept byte for byte", async () => {
      const texts = [
        "0.1",
        "0.30000000000000004",
        "1e21",
        "1E5",
        "1.0",
        "5e-324",
        "1.7976931348623157e308",
        "-0",
        "-1.5e-7",
        "9007199254740993",
        "123456789012345680000",
        "2.2250738585072011e-308",
        '"a\\u0041\\/\\ud83d\\ude00"',
        '"line\\u2028 é 😀"',
        '{"b":1,"a":2,"10":3,"2":4}',
        '{"a":1,"a":2}',
        "[]",
        "{}",
        '""',
        "0",
        "false",
        "[[],{}]",
      ];
      for (const text of texts) {
        const id = uid();
        await store(kind, id, text);
        await reads(kind, id, text);
        if (valkey) assert.equal(await textOf(kind.key(id)), kind.stored(text), "text in Valkey");
      }
    });

    test("random doubles survive exactly", async () => {
      const view = new DataView(new ArrayBuffer(8));
      const doubles = Array.from({ length: 2000 }, () => {
        (view.setUint32(0, Math.random() * 2 ** 32), view.setUint32(4, Math.random() * 2 ** 32));
        return view.getFloat64(0);
      }).filter(Number.isFinite);
      const id = uid();
      await store(kind, id, JSON.stringify(doubles));
      await reads(kind, id, JSON.stringify(doubles));
    });

    test("nesting of depth 1000 is accepted, absurd depth is 400", async () => {
      const nested = (depth) => "[".repeat(depth) + "]".repeat(depth);
      const id = uid();
      await store(kind, id, nested(1000));
      await reads(kind, id, nested(1000));
      for (const depth of [100_000, 1_000_000]) {
        refused(await postText(kind.path(id), kind.wrap(nested(depth))), 400);
        refused(await postText(kind.path(id), kind.wrap('{"a":'.repeat(depth) + "1" + "}".repeat(depth))), 400);
      }
      await reads(kind, id, nested(1000));
    });

    test("malformed JSON and a top level that is no object are 400 and store nothing", async () => {
      const bad = [
        "",
        " ",
        "{",
        "}",
        '{"value":1,}',
        "{'value':1}",
        '{"value":NaN}',
        '{"value":01}',
        '{"value":1}x',
        '{"value":undefined}',
        '{"value":"\u0001"}',
        '{"value":1 "ttl":2}',
        '"text"',
        "5",
        "null",
        "true",
      ];
      if (kind.name !== "session") bad.push("[]", '[{"value":1}]');
      for (const text of bad) {
        const id = uid();
        refused(await postText(kind.path(id), text), 400);
        missing(await get(kind.path(id)));
      }
    });

    test("a body that is not UTF-8 is 400 and stores nothing", async () => {
      const id = uid();
      const body = Buffer.concat([Buffer.from('{"value":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
      refused(await rawRequest("POST", kind.path(id), { headers: { "Content-Type": "application/json" }, body }), 400);
      missing(await get(kind.path(id)));
    });

    test("a content type that is not application/json is 415 and writes nothing", async () => {
      for (const type of [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/json",
        "",
      ]) {
        const id = uid();
        const headers = type === "" ? {} : { "Content-Type": type };
        refused(await rawRequest("POST", kind.path(id), { headers, body: kind.wrap("1") }), 415);
        missing(await get(kind.path(id)));
      }
    });

    test("application/json is accepted in any case and with parameters", async () => {
      for (const type of ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"]) {
        const id = uid();
        ok(await rawRequest("POST", kind.path(id), { headers: { "Content-Type": type }, body: kind.wrap("1") }));
        await reads(kind, id, "1");
      }
    });

    test("ttl that is not whole seconds from 1 to one year is 400 and stores nothing", async () => {
      const bad = [
        "0",
        "-1",
        "1.5",
        "0.5",
        "1e300",
        String(YEAR_S + 1),
        "9007199254740993",
        "99999999999999999999",
        '"0"',
        '"-5"',
        '"1.5"',
        '"abc"',
        '""',
        '" 60"',
        '"60s"',
        '"6e1"',
        '"+60"',
        '"\uff16\uff10"',
        `"${YEAR_S + 1}"`,
        '"99999999999999999999"',
        "true",
        "false",
        "[]",
        "[60]",
        "{}",
        '{"s":60}',
      ];
      for (const ttl of bad) {
        const id = uid();
        refused(await postText(kind.path(id), kind.wrap("1", ttl)), 400);
        missing(await get(kind.path(id)));
      }
    });

    test("a refused write leaves the stored value alone", async () => {
      const id = uid();
      await store(kind, id, '"kept"');
      refused(await postText(kind.path(id), kind.wrap('"new"', "-1")), 400);
      await reads(kind, id, '"kept"');
    });

    test("ttl is honoured as a number and as a string of digits", needsValkey, async () => {
      for (const [ttl, seconds] of [
        ["30", 30],
        ['"60"', 60],
        ["86400", DAY_S],
        ["2592000", 30 * DAY_S],
        [String(YEAR_S), YEAR_S],
      ]) {
        const id = uid();
        await store(kind, id, "1", ttl);
        await ttlIs(kind.key(id), seconds);
        await reads(kind, id, "1", ttl);
      }
    });

    test("without ttl, or with null, the default applies; a rewrite replaces the ttl", needsValkey, async () => {
      const id = uid();
      const isDefault = async () => (kind.ttl === undefined ? assert.equal(await ttlOf(kind.key(id)), -1) : ttlIs(kind.key(id), kind.ttl));
      await store(kind, id, "1");
      await isDefault();
      await store(kind, id, "2", "100");
      await ttlIs(kind.key(id), 100);
      await store(kind, id, "3", "200");
      await ttlIs(kind.key(id), 200);
      await store(kind, id, "4");
      await isDefault();
      await store(kind, id, "5", "100");
      await store(kind, id, "6", "null");
      await isDefault();
    });

    test("reading never prolongs the ttl", needsValkey, async () => {
      const id = uid();
      await store(kind, id, "1", "1000");
      await valkey.send("PEXPIRE", kind.key(id), 100_000);
      let last = Infinity;
      for (let i = 0; i < 5; i++) {
        await reads(kind, id, "1", "1000");
        const left = await valkey.send("PTTL", kind.key(id));
        assert.ok(left > 0 && left <= 100_000 && left <= last, `${left} after ${last}`);
        last = left;
      }
    });

    test("a key of another Valkey type is a miss, never 5xx; it can be overwritten and deleted", needsValkey, async () => {
      for (const make of [
        ["RPUSH", "x"],
        ["HSET", "f", "x"],
        ["SADD", "x"],
        ["ZADD", "1", "x"],
      ]) {
        const id = uid();
        await valkey.send(make[0], kind.key(id), ...make.slice(1));
        missing(await get(kind.path(id)));
        await store(kind, id, "1");
        await reads(kind, id, "1");
        const other = uid();
        await valkey.send(make[0], kind.key(other), ...make.slice(1));
        assert.deepEqual(ok(await del(kind.path(other))), { success: true });
      }
    });

    test("unreadable data (bytes that are not UTF-8) is a miss, never 5xx", needsValkey, async () => {
      const id = uid();
      await valkey.send("SET", kind.key(id), Buffer.from([0xff, 0xfe, 0x80, 0x00]), "EX", 60);
      missing(await get(kind.path(id)));
    });

    test("absurdly deep or odd JSON written by others is never 5xx and never a broken answer", needsValkey, async () => {
      for (const text of [
        "[".repeat(200_000) + "]".repeat(200_000),
        "[".repeat(200_000),
        '{"a":',
        '"\\ud800"',
        "1e999",
        '{"a":1}{"b":2}',
        "nullnull",
        "\ufeff{}",
        "\u0000",
      ]) {
        const id = uid();
        await valkey.send("SET", kind.key(id), text, "EX", 60);
        const res = await get(kind.path(id));
        if (res.status !== 404) ok(res);
      }
    });

    test("ETag and If-None-Match give 304 without a body, until the value changes", async () => {
      const id = uid();
      await store(kind, id, '"one"');
      const etag = okAnswer(await get(kind.path(id))).headers.get("etag");
      assert.ok(etag, "no ETag");
      const same = await get(kind.path(id), { "If-None-Match": etag });
      assert.deepEqual([same.status, same.text], [304, ""]);
      await store(kind, id, '"two"');
      const changed = okAnswer(await get(kind.path(id), { "If-None-Match": etag }));
      assert.notEqual(changed.headers.get("etag"), etag);
    });

    test("a read that races a delete does not bring the value back", needsValkey, async () => {
      for (let i = 0; i < 20; i++) {
        const id = uid();
        await valkey.send("SET", kind.key(id), kind.stored("1"), "EX", 60); // cold: L1 has never seen it
        await Promise.all([get(kind.path(id)), get(kind.path(id)), del(kind.path(id)), get(kind.path(id)), get(kind.path(id))]);
        missing(await get(kind.path(id)));
      }
    });

    test("a read that races a write does not bring the old value back", needsValkey, async () => {
      for (let i = 0; i < 20; i++) {
        const id = uid();
        await valkey.send("SET", kind.key(id), kind.stored('"old"'), "EX", 60);
        await Promise.all([get(kind.path(id)), get(kind.path(id)), store(kind, id, '"new"'), get(kind.path(id)), get(kind.path(id))]);
        await reads(kind, id, '"new"');
      }
    });

    test("ids: characters that need no encoding, and encoded ones, round-trip and are decoded exactly once", async () => {
      const plain = [...":@|;,=&$!'()*[]^~+-_.\"<>{}`é😀 "].map((char) => [char, char]); // as the browser client sends them
      const encoded = [
        ["%20", " "],
        ["%2F", "/"],
        ["%2f", "/"],
        ["%25", "%"],
        ["%2541", "%41"],
        ["%252F", "%2F"],
        ["%2B", "+"],
        ["%3F", "?"],
        ["%23", "#"],
        ["%5C", "\\"],
        ["%3A", ":"],
        ["%0A", "\n"],
        ["%09", "\t"],
        ["%7F", "\u007f"],
        ["%F0%9F%98%80", "😀"],
        ["%C3%A9", "é"],
        ["e%CC%81", "e\u0301"],
        ["%41", "A"],
        ["..%2F", "../"],
        ["%2E%2E%2F", "../"],
        ["%EF%BB%BF", "\ufeff"],
      ];
      for (const [sent, meant] of [...plain, ...encoded]) {
        const tag = uid();
        const id = `${tag}a${sent}b${sent}c`;
        await store(kind, id, JSON.stringify(meant));
        await reads(kind, id, JSON.stringify(meant));
        if (valkey) assert.equal(await textOf(kind.key(`${tag}a${meant}b${meant}c`)), kind.stored(JSON.stringify(meant)), `key for ${sent}`);
        assert.deepEqual(ok(await del(kind.path(id))), { success: true });
        missing(await get(kind.path(id)));
      }
    });

    test("ids sent as raw UTF-8 or in another spelling of the same encoding are the same id", async () => {
      const tag = uid();
      await store(kind, `${tag}é:x`, '"same"');
      for (const spelling of [`${tag}%C3%A9:x`, `${tag}%c3%a9%3Ax`, `${tag}%c3%a9%3ax`]) await reads(kind, spelling, '"same"');
    });

    test("ids that only begin or end in odd characters round-trip (encoded slash, dots, colon)", async () => {
      for (const [sent, meant] of [
        ["%2F", "/"],
        ["..", ".."],
        [":", ":"],
        ["%20", " "],
        ["~", "~"],
        ["%25", "%"],
      ]) {
        const tag = uid();
        for (const [id, key] of [
          [`${sent}${tag}`, `${meant}${tag}`],
          [`${tag}${sent}`, `${tag}${meant}`],
        ]) {
          await store(kind, id, "1");
          await reads(kind, id, "1");
          if (valkey) assert.equal(await textOf(kind.key(key)), kind.stored("1"), `key for ${id}`);
        }
      }
    });

    test("ids are case-sensitive and not normalised (NFC and NFD are two ids)", async () => {
      const tag = uid();
      const ids = [`${tag}Ab`, `${tag}aB`, `${tag}ab`, `${tag}\u00e9`, `${tag}e\u0301`, `${tag}\ufb01`, `${tag}fi`];
      for (const id of ids) await store(kind, id, JSON.stringify(id));
      for (const id of ids) await reads(kind, id, JSON.stringify(id));
    });

    test("malformed percent-encoding and NUL in an id are 400 for every method", async () => {
      for (const bad of ["50%", "%zz", "%f", "%ff", "%c3", "%C0%AF", "%ED%A0%80", "%00", "a%00b"]) {
        for (const method of ["GET", "DELETE"]) refused(await rawRequest(method, kind.path(bad)), 400);
        refused(await rawRequest("POST", kind.path(bad), { headers: { "Content-Type": "application/json" }, body: kind.wrap("1") }), 400);
      }
    });

    test("an id above 1024 bytes is refused, also when it is short in characters", async () => {
      for (const id of [uid().padEnd(1025, "x"), uid().padEnd(5000, "x"), `${uid()}${"😀".repeat(260)}`]) {
        refused(await get(kind.path(id)), 400, 414);
        refused(await postText(kind.path(id), kind.wrap("1")), 400, 414);
        refused(await del(kind.path(id)), 400, 414);
      }
    });

    if (kind.name === "session" || kind.name === "generic") {
      test("an id of up to 1024 bytes is accepted", async () => {
        const id = uid();
        for (const long of [id.padEnd(500, "x"), id.padEnd(1024, "y"), id + "😀".repeat(Math.floor((1024 - id.length) / 4))]) {
          await store(kind, long, "1");
          await reads(kind, long, "1");
        }
      });
    } else {
      test("a user id of up to 255 characters is accepted, a longer one refused", async () => {
        const id = uid();
        for (const long of [id.padEnd(255, "x"), id + "😀".repeat(255 - id.length)]) {
          await store(kind, long, "1");
          await reads(kind, long, "1");
        }
        refused(await postText(kind.path(id.padEnd(256, "x")), kind.wrap("1")), 400);
        refused(await get(kind.path(id.padEnd(256, "x"))), 400);
        refused(await del(kind.path(id.padEnd(256, "x"))), 400);
      });
    }

    test("a trailing slash is tolerated", async () => {
      const id = uid();
      ok(await postText(`${kind.path(id)}/`, kind.wrap("1")));
      await reads(kind, id, "1");
      assert.equal((await get(`${kind.path(id)}/`)).text, kind.answer("1"));
      assert.deepEqual(ok(await del(`${kind.path(id)}/`)), { success: true });
    });

    test("unknown query parameters and headers change neither the answer nor the cache entry", async () => {
      const id = uid();
      await store(kind, id, "1");
      await reads(kind, id, "1");
      const headers = {
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": `${VK}/health`,
        "X-Rewrite-URL": "/",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        Range: "bytes=0-0",
      };
      for (const res of [await get(`${kind.path(id)}?utm_source=x&_method=DELETE`), await get(kind.path(id), headers), await get(`${kind.path(id)}?`)]) {
        ok(res);
        assert.equal(res.text, kind.answer("1"));
        assert.equal(answeredBy(res), "L1");
      }
      await reads(kind, id, "1");
    });
  });
}

// ---------------------------------------------------------------- what takes seconds, all at once

describe("time:", { concurrency: true }, () => {
  for (const kind of KINDS) {
    test(`${kind.name}: what others change in Valkey becomes visible within 6 s, and old values never return`, needsValkey, async () => {
      const id = uid();
      await store(kind, id, '"old"');
      await reads(kind, id, '"old"');
      await valkey.send("SET", kind.key(id), kind.stored('"new"'), "EX", 600);
      const isNew = async () => (await get(kind.path(id))).text === kind.answer('"new"');
      await poll("the new value", BEHIND_THE_EDGE_MS, isNew);
      for (let i = 0; i < 10; i++) assert.ok(await isNew(), "the old value came back");
      await valkey.send("DEL", kind.key(id));
      await poll("the deletion", BEHIND_THE_EDGE_MS, async () => (await get(kind.path(id))).status === 404);
    });

    test(`${kind.name}: a value with ttl 1 is gone soon after it expired, however often it is read`, async () => {
      const id = uid();
      const started = Date.now();
      await store(kind, id, "1", "1");
      await poll("the expiry", 2_500, async () => (await get(kind.path(id))).status === 404, 50);
      assert.ok(Date.now() - started >= 900, "gone too early");
    });

    test(`${kind.name}: L1 takes over the remaining ttl of a key that others wrote`, needsValkey, async () => {
      const id = uid();
      await valkey.send("SET", kind.key(id), kind.stored("1"), "PX", 1500);
      await reads(kind, id, "1");
      await poll("the expiry", 2_800, async () => (await get(kind.path(id))).status === 404, 50);
    });

    test(`${kind.name}: Cache-Status names the tier: a cold read comes from Valkey, the next from L1, with Age`, needsValkey, async () => {
      const id = uid();
      await valkey.send("SET", kind.key(id), kind.stored("1"), "EX", 600);
      assert.notEqual(answeredBy(okAnswer(await get(kind.path(id)))), "L1");
      const warm = await get(kind.path(id));
      assert.equal(answeredBy(warm), "L1");
      ageOf(warm);
      await poll(
        "an L1 answer of age 1 or more",
        5_000,
        async () => {
          const res = await get(kind.path(id));
          return answeredBy(res) === "L1" && ageOf(res) >= 1;
        },
        200,
      );
    });
  }
});

// ---------------------------------------------------------------- what others wrote

describe("read what others wrote:", () => {
  test("any text that is not JSON is a plain string on the generic route", needsValkey, async () => {
    for (const text of ["hello", "", " ", "{broken", "undefined", "NaN", "'x'", "01", "1 2", "True", "tëxt 😀", 'a\nb\t"c"\\', "-", "+1", ".5"]) {
      const key = uid();
      await valkey.send("SET", key, text, "EX", 60);
      assert.deepEqual(ok(await get(cache(key))), { value: text });
    }
  });

  test("JSON text is JSON, also with white space around", needsValkey, async () => {
    for (const text of ["123", "true", '"123"', "[]", ' {"a" : 1}\n', "-1.5e3"]) {
      const key = uid();
      await valkey.send("SET", key, text, "EX", 60);
      assert.deepEqual(ok(await get(cache(key))), { value: JSON.parse(text) });
    }
  });

  test("a plain string in recommendations and preferences is given as a string", needsValkey, async () => {
    const id = uid();
    for (const name of ["recommendations", "preferences"]) {
      await valkey.send("SET", `${name}:${id}`, "plain text", "EX", 60);
      assert.deepEqual(ok(await get(cache(`${name}/${id}`))), { [name]: "plain text" });
    }
  });

  test("conversation objects without context are given as stored", needsValkey, async () => {
    const id = uid();
    await valkey.send("SET", `conversation:${id}`, '{"history":[1,2],"intent":"buy"}', "EX", 60);
    assert.deepEqual(ok(await get(cache(`conversation/${id}`))), { history: [1, 2], intent: "buy" });
  });

  test("a stored JSON null is {value:null} on the generic route and 404 on the typed ones", needsValkey, async () => {
    const id = uid();
    for (const kind of KINDS) {
      await valkey.send("SET", kind.key(id), "null", "EX", 60);
      const res = await get(kind.path(id));
      if (kind.name === "generic") assert.deepEqual(ok(res), { value: null });
      else missing(res);
    }
  });
});

// ---------------------------------------------------------------- values that are easily lost

describe("empty values:", () => {
  test('null, 0, false, "", [] and {} are hits on the generic route', async () => {
    for (const value of [null, 0, false, "", [], {}]) {
      const key = uid();
      ok(await post(cache(key), { value }));
      assert.deepEqual(ok(await get(cache(key))), { value });
    }
  });

  test("strings that look like JSON stay strings", async () => {
    for (const value of ["123", "true", "null", "", "{}", "[1]", '"quoted"', " ", "\u0000", "\\u0000"]) {
      const key = uid();
      ok(await post(cache(key), { value }));
      assert.deepEqual(ok(await get(cache(key))), { value });
    }
  });

  test("an empty array of recommendations and an empty object of preferences are hits", async () => {
    const id = uid();
    ok(await post(cache(`recommendations/${id}`), { recommendations: [] }));
    assert.deepEqual(ok(await get(cache(`recommendations/${id}`))), { recommendations: [] });
    ok(await post(cache(`preferences/${id}`), { preferences: {} }));
    assert.deepEqual(ok(await get(cache(`preferences/${id}`))), { preferences: {} });
  });

  test("recommendations or preferences missing or null: success, and GET is 404 afterwards", async () => {
    for (const name of ["recommendations", "preferences"]) {
      for (const body of [{}, { [name]: null }, { ttl: 60 }, { other: 1 }]) {
        const path = cache(`${name}/${uid()}`);
        ok(await post(path, { [name]: [1] }));
        assert.deepEqual(ok(await post(path, body)), { success: true });
        missing(await get(path));
      }
    }
  });

  test("conversation without context stores {}, with null keeps null", async () => {
    const path = cache(`conversation/${uid()}`);
    ok(await post(path, {}));
    assert.deepEqual(ok(await get(path)), {});
    ok(await post(path, { context: null }));
    assert.deepEqual(ok(await get(path)), { context: null });
  });

  test("a generic set without value: success, and the key reads as missing afterwards", async () => {
    const key = uid();
    assert.deepEqual(ok(await post(cache(key), {})), { success: true });
    missing(await get(cache(key)));
    ok(await post(cache(key), { value: 1 }));
    assert.deepEqual(ok(await post(cache(key), { ttl: 60 })), { success: true });
    missing(await get(cache(key)));
  });

  test("lone surrogates in a value are kept or refused with 400, never 5xx", async () => {
    for (const text of ['"\\ud800"', '"\\udc00x"', '{"\\ud800":1}']) {
      const key = uid();
      const res = await postText(cache(key), `{"value":${text}}`);
      if (res.status === 200) assert.ok((await get(cache(key))).text.includes(text));
      else refused(res, 400);
    }
  });
});

// ---------------------------------------------------------------- sessions

describe("session:", () => {
  test("the whole POST body is stored and given back, ttl and unknown fields included", async () => {
    const id = uid();
    const body = { userId: "u", sessionId: id, conversationContext: { a: [1] }, preferences: { b: 2 }, createdAt: 1, lastAccessed: 2, extra: "x", ttl: 500 };
    ok(await post(session(id), body));
    assert.deepEqual(ok(await get(session(id))), body);
    if (valkey) assert.equal(await textOf(`session:${id}`), JSON.stringify(body));
  });

  test("a top-level array is kept as it is, or refused with 400", async () => {
    const id = uid();
    const res = await post(session(id), [{ a: 1 }]);
    if (res.status === 200) assert.deepEqual(ok(await get(session(id))), [{ a: 1 }]);
    else refused(res, 400);
  });

  test("touch sets the ttl back to 86400 and lastAccessed to now, every other byte stays", needsValkey, async () => {
    const shapes = [
      ['{"b":1,"lastAccessed":', "5", ',"a":[1.0,1e21],"z":"é"}'],
      ['{"s":"\\"lastAccessed\\":7","nested":{"lastAccessed":1},"lastAccessed":', '"2024-01-01"', ',"t":{"lastAccessed":2}}'],
      ['{ "lastAccessed" : ', '{"deep":[1,{"x":"}"}]}', ' , "n" : -0 }'],
      ['{"x":[{"lastAccessed":3}],"lastAccessed":', "null", "}"],
    ];
    for (const [head, old, tail] of shapes) {
      const id = uid();
      await valkey.send("SET", `session:${id}`, `${head}${old}${tail}`, "EX", 100);
      const sent = Date.now();
      assert.deepEqual(ok(await call("POST", `${session(id)}/touch`)), { success: true });
      const text = await textOf(`session:${id}`);
      assert.ok(text.startsWith(head) && text.endsWith(tail), text);
      const touched = text.slice(head.length, text.length - tail.length);
      assert.match(touched, /^\d{13}$/);
      aboutNow(Number(touched));
      assert.ok(Number(touched) >= sent - 1000, "lastAccessed is older than the touch");
      await ttlIs(`session:${id}`, DAY_S);
    }
  });

  test("touch adds lastAccessed where there was none", async () => {
    for (const body of [{}, { a: 1 }, { a: { lastAccessed: 1 } }]) {
      const id = uid();
      ok(await post(session(id), body));
      ok(await call("POST", `${session(id)}/touch`));
      const { lastAccessed, ...rest } = ok(await get(session(id)));
      assert.deepEqual(rest, body);
      aboutNow(lastAccessed);
    }
  });

  test("touch is visible to the next read, L1 included", async () => {
    const id = uid();
    ok(await post(session(id), { lastAccessed: 1 }));
    assert.equal(ok(await get(session(id))).lastAccessed, 1);
    ok(await call("POST", `${session(id)}/touch`));
    aboutNow(ok(await get(session(id))).lastAccessed);
  });

  test("touch of a missing session is 404 and creates nothing", async () => {
    const id = uid();
    missing(await call("POST", `${session(id)}/touch`));
    missing(await get(session(id)));
    if (valkey) assert.equal(await valkey.send("EXISTS", `session:${id}`), 0);
  });

  test("touch needs no content type, takes application/json, refuses any other with 415", async () => {
    const id = uid();
    ok(await post(session(id), { a: 1 }));
    ok(await rawRequest("POST", `${session(id)}/touch`, { headers: { "Content-Length": "0" } }));
    ok(await rawRequest("POST", `${session(id)}/touch`, { headers: { "Content-Type": "application/json", "Content-Length": "0" } }));
    const before = (await get(session(id))).text;
    refused(await rawRequest("POST", `${session(id)}/touch`, { headers: { "Content-Type": "text/plain" }, body: "x" }), 415);
    assert.equal((await get(session(id))).text, before);
  });

  test("touch of something that is no session object is never 5xx and keeps its bytes", needsValkey, async () => {
    for (const text of ["plain", "[1,2]", "5", "null", '"s"', "{broken", "[".repeat(100_000) + "]".repeat(100_000)]) {
      const id = uid();
      await valkey.send("SET", `session:${id}`, text, "EX", 60);
      not5xx(await call("POST", `${session(id)}/touch`));
      assert.equal(await textOf(`session:${id}`), text);
    }
    const id = uid();
    await valkey.send("RPUSH", `session:${id}`, "x");
    not5xx(await call("POST", `${session(id)}/touch`));
    assert.equal(await valkey.send("TYPE", `session:${id}`), "list");
  });

  test("touch is atomic: it never undoes a write or a delete that it races", async () => {
    for (let i = 0; i < 30; i++) {
      const id = uid();
      ok(await post(session(id), { version: "old" }));
      await Promise.all([call("POST", `${session(id)}/touch`), post(session(id), { version: "new" }), call("POST", `${session(id)}/touch`)]);
      assert.equal(ok(await get(session(id))).version, "new");
      await Promise.all([call("POST", `${session(id)}/touch`), del(session(id)), call("POST", `${session(id)}/touch`)]);
      missing(await get(session(id)));
      if (valkey) assert.equal(await valkey.send("EXISTS", `session:${id}`), 0);
    }
  });

  test("a session may be called touch; a slash in a session id must be encoded", async () => {
    const id = `touch${uid()}/touch`;
    ok(await post(session(encodeURIComponent(id)), { a: 1 }));
    ok(await call("POST", `${session(encodeURIComponent(id))}/touch`));
    assert.equal(ok(await get(session(encodeURIComponent(id)))).a, 1);
    missing(await get(session(`${uid()}/${uid()}`)));
    not5xx(await get(session("touch")));
  });

  test("a deleted session (log-out) stays deleted", async () => {
    const id = uid();
    ok(await post(session(id), { a: 1 }));
    ok(await get(session(id)));
    ok(await del(session(id)));
    for (let i = 0; i < 10; i++) missing(await get(session(id)));
  });
});

// ---------------------------------------------------------------- routing and aliases

describe("keys and routes:", () => {
  test("typed routes use the documented Valkey keys, the generic route the key as given", needsValkey, async () => {
    for (const kind of KINDS) {
      const id = uid("Aé");
      await store(kind, id, '{"k":1}');
      assert.equal(await textOf(kind.key(id)), kind.stored('{"k":1}'));
    }
  });

  test("deleting the generic key empties the typed cache and the session, in L1 too", async () => {
    for (const kind of KINDS.filter(({ name }) => name !== "generic")) {
      const id = uid();
      await store(kind, id, "[1]");
      await reads(kind, id, "[1]");
      assert.deepEqual(ok(await del(cache(kind.key(id)))), { success: true });
      missing(await get(kind.path(id)));
      await store(kind, id, "[2]");
      await reads(kind, id, "[2]");
      assert.equal((await batch({ type: "delete", key: kind.key(id) }))[0].success, true);
      missing(await get(kind.path(id)));
    }
  });

  test("typed and generic routes see each other's writes at once", async () => {
    for (const kind of KINDS.filter(({ name }) => name !== "generic")) {
      const id = uid();
      missing(await get(kind.path(id)));
      missing(await get(cache(kind.key(id))));
      await store(kind, id, '"typed"');
      assert.equal((await get(cache(kind.key(id)))).text, `{"value":${kind.stored('"typed"')}}`);
      ok(await postText(cache(kind.key(id)), `{"value":${kind.stored('"generic"')}}`));
      await reads(kind, id, '"generic"');
      ok(await del(kind.path(id)));
      missing(await get(cache(kind.key(id))));
    }
  });

  test("a generic key may be a reserved word", async () => {
    // Shared names, so only what holds whoever else uses them is asserted.
    for (const word of ["conversation", "recommendations", "preferences", "metrics", "health", "batch", "session", "touch", "cache"]) {
      ok(await post(cache(word), { value: word }));
      assert.equal(ok(await get(cache(word))).value, word);
    }
  });

  test("reserved words one level down are ids, and further segments make generic keys", needsValkey, async () => {
    const id = uid();
    ok(await post(cache(`health/${id}`), { value: 1 }));
    assert.equal(await textOf(`health/${id}`), "1");
    ok(await post(cache(`recommendations/${id}/x`), { value: 2 }));
    assert.equal(await textOf(`recommendations/${id}/x`), "2");
    ok(await post(cache(`recommendations%2F${id}`), { value: 3 }));
    assert.equal(await textOf(`recommendations/${id}`), "3");
    missing(await get(cache(`recommendations/${id}`)));
    ok(await post(cache(`recommendations/${id}%2Fx`), { recommendations: [4] }));
    assert.equal(await textOf(`recommendations:${id}/x`), "[4]");
  });

  test("keys with slashes are joined from the remaining segments, encoded or not", async () => {
    const key = `${uid()}/b/c d`;
    ok(await post(cache(key), { value: "slashed" }));
    assert.deepEqual(ok(await get(cache(encodeURIComponent(key)))), { value: "slashed" });
    assert.deepEqual(ok(await get(cache(key))), { value: "slashed" });
    assert.deepEqual(await batch({ type: "get", key }), [{ success: true, key, value: "slashed" }]);
    ok(await del(cache(key)));
    missing(await get(cache(key)));
  });

  test("/cache without a key is 404 for every method", async () => {
    for (const path of [`${VK}/cache`, `${VK}/cache/`]) {
      missing(await get(path));
      missing(await post(path, { value: 1 }));
      missing(await del(path));
    }
  });

  test("encoded dot segments do not traverse", async () => {
    for (const target of [cache("%2e%2e%2fhealth"), cache("%2E%2E%2Fhealth"), cache(`..%2f..%2fpostgres%2fhealth`), cache(`x%2f..%2f..%2f..%2fhealth`)]) {
      missing(await rawRequest("GET", target)); // a key nobody has, not the health route
    }
    for (const target of [
      cache("%2e%2e/health"),
      cache("../health"),
      cache("%2e/x"),
      cache("a/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
      cache(".."),
    ]) {
      const res = await rawRequest("GET", target); // a URL parser in front may have resolved these already
      not5xx(res);
      assert.doesNotMatch(res.text, /root:/);
    }
  });

  test("dots that are no dot segment are data", async () => {
    const tag = uid();
    for (const id of [`${tag}..`, `..${tag}`, `${tag}...x`, `.${tag}`]) {
      ok(await post(cache(id), { value: id }));
      assert.deepEqual(ok(await get(cache(id))), { value: id });
    }
  });
});

// ---------------------------------------------------------------- batch

describe("batch:", () => {
  test("one result per operation, in order, executed in order", async () => {
    const [a, b] = [uid(), uid()];
    assert.deepEqual(
      await batch(
        { type: "get", key: a },
        { type: "set", key: a, value: { n: 1 } },
        { type: "get", key: a },
        { type: "set", key: a, value: [2], ttl: 60 },
        { type: "set", key: b, value: "", ttl: "60" },
        { type: "get", key: b },
        { type: "get", key: a },
        { type: "delete", key: a },
        { type: "get", key: a },
        { type: "delete", key: a },
      ),
      [
        { success: true, key: a, value: null },
        { success: true, key: a },
        { success: true, key: a, value: { n: 1 } },
        { success: true, key: a },
        { success: true, key: b },
        { success: true, key: b, value: "" },
        { success: true, key: a, value: [2] },
        { success: true, key: a },
        { success: true, key: a, value: null },
        { success: true, key: a },
      ],
    );
  });

  test("no operations give no results", async () => assert.deepEqual(await batch(), []));

  test("operations that are refused are answered in place, the others still run", async () => {
    const key = uid();
    const bad = [
      null,
      5,
      "get",
      true,
      [],
      {},
      { type: "get" },
      { key },
      { type: "frob", key },
      { type: "GET", key },
      { type: null, key },
      { type: "get", key: 5 },
      { type: "get", key: null },
      { type: "get", key: "" },
      { type: "set", key: "", value: 1 },
      { type: "get", key: "a\u0000b" },
      { type: "get", key: "x".repeat(1025) },
      { type: "set", key: [key], value: 1 },
      ...[0, -1, 1.5, "abc", "", true, [], {}, YEAR_S + 1].map((ttl) => ({ type: "set", key, value: "bad", ttl })),
    ];
    const results = await batch({ type: "set", key, value: "good" }, ...bad, { type: "get", key });
    assert.equal(results.length, bad.length + 2);
    assert.deepEqual(results[0], { success: true, key });
    bad.forEach((operation, i) => {
      const result = results[i + 1];
      assert.equal(result.success, false, `accepted: ${JSON.stringify(operation)?.slice(0, 100)}`);
      assert.equal(typeof result.error, "string");
      if (typeof operation?.key === "string") assert.equal(result.key, operation.key);
    });
    assert.deepEqual(results.at(-1), { success: true, key, value: "good" });
  });

  test("set without value: success, and the key reads as missing; set null reads null", async () => {
    const key = uid();
    const [, unsetResult, got] = await batch({ type: "set", key, value: 1 }, { type: "set", key }, { type: "get", key });
    assert.deepEqual(
      [unsetResult, got],
      [
        { success: true, key },
        { success: true, key, value: null },
      ],
    );
    missing(await get(cache(key)));
    assert.deepEqual(await batch({ type: "set", key, value: null }, { type: "get", key }), [
      { success: true, key },
      { success: true, key, value: null },
    ]);
  });

  test("operations that is no array, more than 1000, or no object is 400 and runs nothing", async () => {
    const key = uid();
    const set = { type: "set", key, value: 1 };
    for (const body of [{}, { operations: null }, { operations: {} }, { operations: "x" }, { operations: set }, [], [set]])
      refused(await post(`${VK}/batch`, body), 400);
    refused(await post(`${VK}/batch`, { operations: Array(1001).fill(set) }), 400);
    for (const text of ["", "{", "null", '{"operations":[}']) refused(await postText(`${VK}/batch`, text), 400);
    refused(await postText(`${VK}/batch`, JSON.stringify({ operations: [set] }), { "Content-Type": "text/plain" }), 415);
    missing(await get(cache(key)));
  });

  test("1000 operations are accepted", async () => {
    const tag = uid();
    const results = await batch(
      ...Array.from({ length: 1000 }, (_, i) => (i < 500 ? { type: "set", key: `${tag}:${i}`, value: i, ttl: 60 } : { type: "get", key: `${tag}:${i - 500}` })),
    );
    assert.equal(results.length, 1000);
    results.slice(500).forEach((result, i) => assert.deepEqual(result, { success: true, key: `${tag}:${i}`, value: i }));
  });

  test("batch and single routes see each other's writes at once, L1 included", async () => {
    const key = uid();
    missing(await get(cache(key)));
    for (let i = 0; i < 5; i++) {
      await batch({ type: "set", key, value: i });
      assert.deepEqual(ok(await get(cache(key))), { value: i });
      ok(await post(cache(key), { value: `single ${i}` }));
      assert.deepEqual(await batch({ type: "get", key }), [{ success: true, key, value: `single ${i}` }]);
      await batch({ type: "delete", key });
      missing(await get(cache(key)));
      ok(await post(cache(key), { value: 1 }));
      ok(await del(cache(key)));
      assert.deepEqual(await batch({ type: "get", key }), [{ success: true, key, value: null }]);
    }
  });

  test("batch sees typed caches and sessions under their keys", async () => {
    const id = uid();
    ok(await post(session(id), { s: 1 }));
    ok(await post(cache(`recommendations/${id}`), { recommendations: [1] }));
    const [s, r] = await batch({ type: "get", key: `session:${id}` }, { type: "get", key: `recommendations:${id}` });
    assert.deepEqual([s.value, r.value], [{ s: 1 }, [1]]);
    await batch({ type: "set", key: `preferences:${id}`, value: { p: 1 } });
    assert.deepEqual(ok(await get(cache(`preferences/${id}`))), { preferences: { p: 1 } });
  });

  test("values are kept byte for byte, keys exactly", async () => {
    const key = `${uid()} é/😀:%2F?#\n`;
    for (const text of ["1e21", "-0", "0.1", '{"b":1,"a":2}', '"\\u0041"']) {
      await postText(`${VK}/batch`, `{"operations":[{"type":"set","key":${JSON.stringify(key)},"value":${text},"ttl":60}]}`);
      assert.equal((await get(cache(encodeURIComponent(key)))).text, `{"value":${text}}`);
      const res = await post(`${VK}/batch`, { operations: [{ type: "get", key }] });
      assert.ok(res.text.includes(`"value":${text}`), res.text);
    }
    if (valkey) assert.equal(await textOf(key), '"\\u0041"');
  });

  test("ttl is set, replaced and removed as on the single route", needsValkey, async () => {
    const key = uid();
    await batch({ type: "set", key, value: 1, ttl: 100 });
    await ttlIs(key, 100);
    await batch({ type: "set", key, value: 1, ttl: null });
    assert.equal(await ttlOf(key), -1);
    await batch({ type: "set", key, value: 1, ttl: "200" });
    await ttlIs(key, 200);
    await batch({ type: "set", key, value: 1 });
    assert.equal(await ttlOf(key), -1);
  });

  test("a value of another Valkey type reads as absent, raw text as a string", needsValkey, async () => {
    const [list, text] = [uid(), uid()];
    await valkey.send("RPUSH", list, "x");
    await valkey.send("SET", text, "raw text");
    assert.deepEqual(await batch({ type: "get", key: list }, { type: "get", key: text }), [
      { success: true, key: list, value: null },
      { success: true, key: text, value: "raw text" },
    ]);
  });
});

// ---------------------------------------------------------------- internal keys

describe("keys the edge keeps for itself:", () => {
  const spellings = (key) => [
    key,
    encodeURIComponent(key),
    key.replace("s", "%73"),
    key.replace(":", "%3A"),
    [...Buffer.from(key)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join(""),
  ];

  /** Asserts that no route reads, changes or deletes this key. */
  async function unreachable(key) {
    for (const spelling of new Set(spellings(key))) {
      refused(await get(cache(spelling)), 403);
      refused(await post(cache(spelling), { value: "attack" }), 403);
      refused(await post(cache(spelling), {}), 403);
      refused(await del(cache(spelling)), 403);
    }
    for (const operation of [
      { type: "get", key },
      { type: "set", key, value: "attack" },
      { type: "set", key },
      { type: "delete", key },
    ]) {
      const [result] = await batch(operation);
      assert.equal(result.success, false, JSON.stringify(operation));
      assert.equal(typeof result.error, "string");
      assert.equal(result.value ?? null, null);
    }
  }

  test("are refused on the generic route and in batches, in every spelling", async () => {
    for (const key of [`${INTERNAL}${uid()}`, INTERNAL, `${INTERNAL}a/b`, `${INTERNAL}l2:products`]) await unreachable(key);
  });

  test("planted ones survive every attempt unchanged", needsValkey, async () => {
    const key = `${INTERNAL}test:${uid()}`;
    await valkey.send("SET", key, '"planted"', "EX", 600);
    await unreachable(key);
    assert.equal(await textOf(key), '"planted"');
  });

  test("the copies of database rows are unreachable", needsBoth, async () => {
    const user = uid("user");
    const pool = await openPostgres();
    await pool.query("INSERT INTO user_profiles (user_id, email) VALUES ($1, $2)", [user, `${user}@example.test`]);
    await pool.end();
    ok(await get(`${PG}/users/${user}/profile`));
    ok(await get(`${PG}/products?category=${user}`));
    // Only this test's own: the keys of the files that run beside it hold whatever ids they make up.
    const keys = await poll("L2 copies in Valkey", 3_000, async () => {
      const found = (await valkey.scan(`${INTERNAL}*`)).filter((key) => key.includes(user));
      return found.length > 0 && found;
    });
    for (const key of keys) {
      await unreachable(key);
      if ((await valkey.send("TYPE", key)) === "string") assert.doesNotMatch((await textOf(key)) ?? "", /attack/);
    }
    ok(await get(`${PG}/users/${user}/profile`));
  });

  test("other keys that only look similar are ordinary keys", async () => {
    const tag = uid();
    for (const key of [`Shepherd-Edge:${tag}`, `shepherd-edge${tag}`, `xshepherd-edge:${tag}`, `%2573hepherd-edge:${tag}`, `a/shepherd-edge:${tag}`]) {
      ok(await post(cache(key), { value: 1 }));
      assert.deepEqual(ok(await get(cache(key))), { value: 1 });
    }
  });
});

// ---------------------------------------------------------------- metrics and health

describe("metrics and health:", () => {
  test("metrics are numbers, counted: rates within 0…1 that add up to 1 after a read", async () => {
    missing(await get(cache(uid())));
    const metrics = ok(await get(`${VK}/metrics`));
    for (const name of ["hitRate", "missRate", "averageLatency", "totalRequests"]) assert.equal(typeof metrics[name], "number", name);
    for (const rate of [metrics.hitRate, metrics.missRate]) assert.ok(rate >= 0 && rate <= 1);
    assert.ok(Math.abs(metrics.hitRate + metrics.missRate - 1) < 1e-9, JSON.stringify(metrics));
    assert.ok(metrics.averageLatency >= 0 && metrics.totalRequests > 0);
  });

  test("metrics move with the traffic and are never cached", async () => {
    const first = ok(await get(`${VK}/metrics`)).totalRequests;
    const key = uid();
    ok(await post(cache(key), { value: 1 }));
    for (let i = 0; i < 10; i++) ok(await get(cache(key)));
    assert.ok(ok(await get(`${VK}/metrics`)).totalRequests >= first + 10);
  });

  test('health: {status:"healthy", latency:number} within 5 s, not cached, without INFO text', async () => {
    const started = Date.now();
    const res = await get(`${VK}/health`);
    assert.ok(Date.now() - started < 5_000);
    const health = ok(res);
    assert.equal(health.status, "healthy");
    assert.ok(typeof health.latency === "number" && health.latency >= 0);
    assert.ok(health.error === undefined || typeof health.error === "string");
    assert.doesNotMatch(res.text, /redis_version|valkey_version|used_memory|run_id|tcp_port|config_file/i);
    assert.equal(res.headers.get("age"), null);
  });
});

// ---------------------------------------------------------------- body size

describe("body size:", () => {
  const MIB = 1024 * 1024;
  const valueOf = (bodyBytes) => "x".repeat(bodyBytes - '{"value":""}'.length);

  test("a body of 9.9 MiB, and of exactly 10 MiB, is stored and read back", async () => {
    const key = uid();
    for (const size of [Math.floor(9.9 * MIB), 10 * MIB]) {
      const text = `{"value":"${valueOf(size)}"}`;
      assert.equal(Buffer.byteLength(text), size);
      ok(await postText(cache(key), text));
      assert.ok((await get(cache(key))).text === text, "the value came back changed");
    }
    ok(await del(cache(key)));
  });

  test("a body over 10 MiB is 413 and stores nothing, with and without Content-Length", async () => {
    for (const chunked of [false, true]) {
      for (const size of [10 * MIB + 1, 12 * MIB]) {
        const key = uid();
        refused(await rawRequest("POST", cache(key), { headers: { "Content-Type": "application/json" }, body: `{"value":"${valueOf(size)}"}`, chunked }), 413);
        missing(await get(cache(key)));
      }
    }
  });
});
