// The contract's section 1: what holds for every route. Errors, methods, content types, headers,
// CORS, path encoding, rate limit, secrets, the API description and routes outside this product.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import {
  DATABASE_URL,
  EDGE_URL,
  PG,
  VALKEY_URL,
  VK,
  ageOf,
  answeredBy,
  call,
  del,
  get,
  missing,
  not5xx,
  ok,
  okAnswer,
  post,
  postText,
  rawRequest,
  refused,
  uid,
} from "./client.mjs";

const user = uid("user");
const GET_ROUTES = [
  `${PG}/health`,
  `${PG}/products`,
  `${PG}/users/${user}/profile`,
  `${PG}/users/${user}/orders`,
  `${PG}/returns`,
  `${PG}/stats`,
  `${VK}/health`,
  `${VK}/metrics`,
  `${VK}/session/${user}`,
  `${VK}/cache/conversation/${user}`,
  `${VK}/cache/recommendations/${user}`,
  `${VK}/cache/preferences/${user}`,
  `${VK}/cache/${user}`,
  "/openapi.json",
];
const POST_ROUTES = [
  `${PG}/users/${user}/profile`,
  `${PG}/orders`,
  `${PG}/returns`,
  `${VK}/session/${user}`,
  `${VK}/cache/conversation/${user}`,
  `${VK}/cache/recommendations/${user}`,
  `${VK}/cache/preferences/${user}`,
  `${VK}/cache/${user}`,
  `${VK}/batch`,
];
const OUTSIDE = [
  "/api/vultr/status",
  "/api/vultr/health",
  "/api/vultr/stats",
  "/api/vultr/test",
  "/api/vultr/management/instances",
  "/api/vultr/infer",
  "/api/vultr",
  "/api/vultr/",
  "/api",
  "/api/other",
  "/nothing.html",
  `${PG}`,
  `${VK}`,
  `${PG}/nothing`,
  `${VK}/nothing`,
  `${PG}/users`,
  `${PG}/users/x`,
  `${PG}/users/x/nothing`,
  `${PG}/products/1`,
  `${VK}/session`,
  `${VK}/health/x`,
  `/API/vultr/postgres/health`,
  "/api/vultr/postgresx/health",
];

/** What every answer of the edge has, whatever its status. */
function hasCommonHeaders(res) {
  assert.equal(res.headers.get("cache-control"), "no-store", res.what);
  assert.equal(res.headers.get("x-content-type-options"), "nosniff", res.what);
}

describe("every answer:", () => {
  test("GET answers are JSON (charset utf-8), no-store, nosniff, anonymously", async () => {
    for (const path of GET_ROUTES) {
      const res = await get(path);
      hasCommonHeaders(res);
      if (res.status === 404) missing(res);
      else ok(res);
    }
  });

  test("errors of every kind are JSON {error:string}, no-store, nosniff", async () => {
    const answers = [
      [404, await get(`${VK}/session/${uid()}`)],
      [404, await get("/api/vultr/status")],
      [400, await get(`${VK}/cache/50%`)],
      [400, await get(`${PG}/products?limit=x`)],
      [400, await postText(`${PG}/orders`, "{")],
      [403, await post(`${PG}/batch`, {})],
      [405, await call("PUT", `${PG}/products`)],
      [409, await post(`${PG}/orders`, { user_id: uid(), items: [], total_amount: 1 })],
      [415, await postText(`${VK}/batch`, "{}", { "Content-Type": "text/plain" })],
    ];
    for (const [status, res] of answers) {
      refused(res, status);
      hasCommonHeaders(res);
    }
  });

  test("writes answer with no-store and nosniff too", async () => {
    const key = uid();
    for (const res of [await post(`${VK}/cache/${key}`, { value: 1 }), await del(`${VK}/cache/${key}`), await post(`${PG}/users/${uid()}/profile`, {})])
      hasCommonHeaders(okAnswer(res));
  });

  test("cached reads say which tier answered (Cache-Status), how old the value is (Age), and have an ETag", async () => {
    for (const path of [`${PG}/products`, `${PG}/returns`, `${PG}/users/${user}/orders`]) {
      okAnswer(await get(path));
      const res = okAnswer(await get(path));
      assert.equal(answeredBy(res), "L1", path);
      ageOf(res);
      assert.match(res.headers.get("etag") ?? "", /^(W\/)?"[^"]+"$/);
    }
  });

  test("a read that is repeated says each time how old it is, and sees the next write", async () => {
    const path = `${VK}/session/${uid()}`;
    okAnswer(await post(path, { is: "first" }));
    const seen = new Set();
    const until = Date.now() + 2500;
    let etag;
    while (Date.now() < until) {
      const res = okAnswer(await get(path));
      hasCommonHeaders(res);
      assert.equal(res.body.is, "first");
      etag = res.headers.get("etag");
      if (answeredBy(res) !== "L1") continue;
      seen.add(ageOf(res));
      const ttl_s = Number(/ttl=(\d+)/.exec(res.headers.get("cache-status"))[1]);
      // It stays for 5 s at most, less a tenth so that copies do not end together.
      assert.ok(ageOf(res) + ttl_s >= 3 && ageOf(res) + ttl_s <= 5, res.headers.get("cache-status"));
    }
    assert.deepEqual([...seen], [0, 1, 2]);
    for (let n = 0; n < 3; n++) {
      const res = await get(path, { "If-None-Match": etag });
      assert.deepEqual([res.status, res.text], [304, ""]);
    }
    okAnswer(await post(path, { is: "second" }));
    for (let n = 0; n < 3; n++) {
      const res = okAnswer(await get(path));
      assert.equal(res.body.is, "second");
      assert.notEqual(res.headers.get("etag"), etag);
    }
    okAnswer(await del(path));
    for (let n = 0; n < 3; n++) assert.equal((await get(path)).status, 404);
  });

  test("304 answers have no body and keep no-store and the ETag", async () => {
    const etag = okAnswer(await get(`${PG}/products`)).headers.get("etag");
    for (const condition of [etag, `"x", ${etag}`, `W/${etag.replace(/^W\//, "")}`, "*"]) {
      const res = await get(`${PG}/products`, { "If-None-Match": condition });
      assert.deepEqual([res.status, res.text], [304, ""], condition);
      assert.equal(res.headers.get("cache-control"), "no-store");
      assert.equal(res.headers.get("etag"), etag);
    }
    ok(await get(`${PG}/products`, { "If-None-Match": '"something else"' }));
    for (const odd of ["", "garbage", '"', "W/", ",,,"]) ok(await get(`${PG}/products`, { "If-None-Match": odd }));
  });

  test("HEAD is answered like GET without a body", async () => {
    for (const path of GET_ROUTES) {
      const [head, full] = [await call("HEAD", path), await get(path)];
      assert.equal(head.status, full.status, path);
      assert.equal(head.text, "");
      assert.equal(head.headers.get("content-type"), full.headers.get("content-type"), path);
      hasCommonHeaders(head);
    }
  });

  test("a trailing slash is tolerated on every GET route", async () => {
    for (const path of GET_ROUTES.filter((path) => path !== "/openapi.json")) {
      const [plain, slashed] = [await get(path), await get(`${path}/`)];
      assert.equal(slashed.status, plain.status, path);
    }
  });

  test("an empty query is tolerated on every GET route", async () => {
    for (const path of GET_ROUTES) assert.equal((await get(`${path}?`)).status, (await get(path)).status, path);
  });
});

describe("methods and routes:", () => {
  test("a wrong method is 405 with Allow and changes nothing", async () => {
    const allowed = {
      [`${PG}/products`]: ["GET", "HEAD"],
      [`${PG}/health`]: ["GET", "HEAD"],
      [`${PG}/users/${user}/profile`]: ["GET", "HEAD", "POST"],
      [`${PG}/users/${user}/orders`]: ["GET", "HEAD"],
      [`${PG}/orders`]: ["POST"],
      [`${PG}/returns`]: ["GET", "HEAD", "POST"],
      [`${PG}/stats`]: ["GET", "HEAD"],
      [`${PG}/batch`]: ["POST"],
      [`${VK}/health`]: ["GET", "HEAD"],
      [`${VK}/metrics`]: ["GET", "HEAD"],
      [`${VK}/batch`]: ["POST"],
      [`${VK}/session/${user}`]: ["GET", "HEAD", "POST", "DELETE"],
      [`${VK}/session/${user}/touch`]: ["POST"],
      [`${VK}/cache/preferences/${user}`]: ["GET", "HEAD", "POST", "DELETE"],
      [`${VK}/cache/${user}`]: ["GET", "HEAD", "POST", "DELETE"],
    };
    for (const [path, methods] of Object.entries(allowed)) {
      for (const method of ["GET", "POST", "DELETE", "PUT", "PATCH"].filter((name) => !methods.includes(name))) {
        const res = await call(method, path, method === "POST" || method === "PUT" ? { json: {} } : {});
        refused(res, 405);
        const allow = (res.headers.get("allow") ?? "").split(",").map((name) => name.trim());
        for (const name of methods) assert.ok(allow.includes(name), `${res.what}: Allow lacks ${name}: ${allow}`);
        assert.ok(!allow.includes(method), `${res.what}: Allow offers ${method}`);
      }
    }
  });

  test("routes outside this product are JSON 404, quickly", async () => {
    for (const path of OUTSIDE) {
      const started = Date.now();
      const res = await get(path);
      missing(res);
      hasCommonHeaders(res);
      assert.ok(Date.now() - started < 2_000, `${path} was slow`);
    }
  });

  test("unknown routes are 404 for POST and DELETE too", async () => {
    for (const path of ["/api/vultr/status", `${PG}/nothing`, `${VK}/nothing`, "/api/vultr/management/x"]) {
      missing(await post(path, {}));
      missing(await del(path));
    }
  });

  test("method override headers and parameters are ignored", async () => {
    const key = uid();
    ok(await post(`${VK}/cache/${key}`, { value: 1 }));
    ok(await get(`${VK}/cache/${key}?_method=DELETE`, { "X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE" }));
    assert.deepEqual(ok(await get(`${VK}/cache/${key}`)), { value: 1 });
  });

  test("every POST route refuses another content type with 415 and malformed JSON with 400", async () => {
    for (const path of POST_ROUTES) {
      for (const type of ["text/plain", "application/x-www-form-urlencoded"]) refused(await postText(path, '{"a":1}', { "Content-Type": type }), 415);
      for (const text of ["", "{", '"x"', "null", '{"a":1}}']) refused(await postText(path, text), 400);
    }
  });

  test("raw and odd request targets are answered in JSON, never with 5xx", async () => {
    const targets = [
      "//",
      "///api",
      "/api//vultr/postgres/health",
      `${PG}//products`,
      `${VK}/cache//`,
      `${VK}/cache//x`,
      `${VK}/cache/x//y`,
      "/%",
      "/%00",
      "/%ff",
      "/api/vultr/%70ostgres/health",
      "/api/vultr/postgres/../valkey/health",
      "/api/vultr/postgres/%2e%2e/valkey/health",
      "/..%2f..%2fetc/passwd",
      `${VK}/cache/${"%41".repeat(2000)}`,
      `${VK}/cache/${"a/".repeat(600)}b`,
      `${VK}/session//`,
      `${VK}/session//touch`,
      `${PG}/users//profile`,
      `${PG}/users/%20/profile`,
      `${VK}/cache/\\x\\y`,
      `${VK}/cache/a;b=c`,
      `${VK}/cache/caf\u00c3\u00a9`,
      `${VK}/cache/\u00ff`,
      `${VK}/cache/x?${"a=b&".repeat(500)}`,
      `${PG}/products?limit=1#x`,
      `${VK}/cache/\u007f`,
    ];
    for (const target of targets) {
      const res = await rawRequest("GET", target);
      not5xx(res);
      if (res.status < 300) ok(res);
    }
  });

  test("an empty user id or session id names nothing", async () => {
    for (const path of [`${PG}/users//profile`, `${PG}/users//orders`, `${VK}/session//touch`]) {
      const res = await rawRequest(path.endsWith("touch") ? "POST" : "GET", path);
      refused(res, 400, 404);
    }
  });

  test("the same path in raw UTF-8 and percent-encoded is the same key", async () => {
    const tag = uid();
    ok(await post(`${VK}/cache/${tag}%C3%A9`, { value: "same" }));
    const res = await rawRequest("GET", `${VK}/cache/${tag}\u00c3\u00a9`); // the two bytes of é as they are
    if (res.status === 200) assert.deepEqual(ok(res), { value: "same" });
    else assert.equal(res.status, 400); // the HTTP server in front may refuse bytes above 0x7f in a target
  });
});

describe("CORS:", () => {
  const ALLOWED = (process.env.CORS_ORIGINS ?? "http://localhost:5173,http://localhost:8080,http://localhost:3000").split(",");
  const DENIED = [
    "https://evil.example",
    "http://localhost:5173.evil.example",
    "http://localhost:51730",
    "https://localhost:5173",
    "http://LOCALHOST.evil",
    "null",
    "http://localhost",
    "http://xlocalhost:5173",
    "garbage",
  ];
  const preflight = (origin, path, method = "POST", wanted = "content-type,authorization") =>
    rawRequest("OPTIONS", path, { headers: { Origin: origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted } });
  const words = (res, name) =>
    (res.headers.get(name) ?? "")
      .toLowerCase()
      .split(",")
      .map((word) => word.trim());

  test("preflights of allowed origins are 200/204 and allow GET, POST, DELETE, Content-Type and Authorization", async () => {
    for (const origin of ALLOWED) {
      for (const path of [`${PG}/orders`, `${PG}/products`, `${VK}/session/${uid()}`, `${VK}/session/${uid()}/touch`, `${VK}/cache/${uid()}`, `${VK}/batch`]) {
        for (const method of ["GET", "POST", "DELETE"]) {
          const res = await preflight(origin, path, method);
          assert.ok([200, 204].includes(res.status), `${res.what} -> ${res.status}`);
          assert.ok([origin, "*"].includes(res.headers.get("access-control-allow-origin")), res.what);
          for (const name of ["get", "post", "delete"]) assert.ok(words(res, "access-control-allow-methods").includes(name), name);
          for (const name of ["content-type", "authorization"]) assert.ok(words(res, "access-control-allow-headers").includes(name), name);
          assert.equal(res.text, "");
        }
      }
    }
  });

  test("answers to allowed origins carry Access-Control-Allow-Origin and Vary: Origin, errors included", async () => {
    for (const origin of ALLOWED) {
      const headers = { Origin: origin };
      const answers = [
        await rawRequest("GET", `${PG}/products?limit=1`, { headers }),
        await rawRequest("GET", `${VK}/session/${uid()}`, { headers }),
        await rawRequest("GET", `${PG}/products?limit=x`, { headers }),
        await rawRequest("GET", "/api/vultr/status", { headers }),
        await rawRequest("PUT", `${PG}/products`, { headers }),
        await rawRequest("DELETE", `${VK}/cache/${uid()}`, { headers }),
        await rawRequest("POST", `${PG}/orders`, { headers: { ...headers, "Content-Type": "text/plain" }, body: "x" }),
        await rawRequest("POST", `${PG}/batch`, { headers: { ...headers, "Content-Type": "application/json" }, body: "{}" }),
      ];
      for (const res of answers) {
        const allowed = res.headers.get("access-control-allow-origin");
        assert.ok([origin, "*"].includes(allowed), `${res.what}: ${allowed}`);
        if (allowed !== "*") assert.ok(words(res, "vary").includes("origin"), `${res.what}: no Vary: Origin`);
      }
    }
  });

  test("other origins get no permission, neither preflight nor answer, and never credentials", async () => {
    for (const origin of DENIED) {
      for (const res of [
        await preflight(origin, `${PG}/orders`),
        await rawRequest("GET", `${VK}/metrics`, { headers: { Origin: origin } }),
        await rawRequest("GET", "/api/vultr/status", { headers: { Origin: origin } }),
      ]) {
        not5xx(res);
        const allowed = res.headers.get("access-control-allow-origin");
        assert.ok(allowed === null || (allowed !== origin && allowed !== "*") || process.env.CORS_ORIGINS === "*", `${origin} was allowed: ${allowed}`);
        assert.notEqual(res.headers.get("access-control-allow-credentials"), "true");
      }
    }
  });

  test("an allowed origin's answer is never given to another one from a cache", async () => {
    const path = `${PG}/products?limit=2`;
    for (const [origin, permitted] of [
      [ALLOWED[0], true],
      ["https://evil.example", false],
      [ALLOWED.at(-1), true],
      [undefined, false],
    ]) {
      const res = await rawRequest("GET", path, { headers: origin ? { Origin: origin } : {} });
      const allowed = res.headers.get("access-control-allow-origin");
      if (permitted) assert.ok([origin, "*"].includes(allowed));
      else assert.notEqual(allowed, origin ?? ALLOWED[0]);
    }
  });

  test("304 answers carry the permission too", async () => {
    const etag = okAnswer(await get(`${PG}/products`)).headers.get("etag");
    const res = await rawRequest("GET", `${PG}/products`, { headers: { Origin: ALLOWED[0], "If-None-Match": etag } });
    assert.equal(res.status, 304);
    assert.ok([ALLOWED[0], "*"].includes(res.headers.get("access-control-allow-origin")));
  });
});

describe("operation:", () => {
  test("no rate limit gets in the way of a shop or of a status screen", async () => {
    for (let round = 0; round < 15; round++) {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => get(i % 2 ? `${VK}/health` : `${PG}/products?limit=1`)));
      for (const res of answers) assert.equal(res.status, 200, res.what);
    }
  });

  test("errors reveal no SQL, constraint, host, port, path, stack or secret", async () => {
    const tag = uid();
    const answers = [
      await post(`${PG}/orders`, { user_id: tag, items: [], total_amount: 1 }),
      await post(`${PG}/returns`, { order_id: tag, user_id: tag, product_id: "p", reason: "r" }),
      await get(`${PG}/products?minPrice='`),
      await get(`${PG}/products?category=%00`),
      await post(`${PG}/users/${tag}/profile`, { preferences: 5 }),
      await postText(`${PG}/users/${tag}/profile`, '{"preferences":{"a":"\\u0000"}}'),
      await post(`${PG}/users/${"x".repeat(256)}/profile`, {}),
      await post(`${PG}/orders`, { user_id: tag, items: [], total_amount: 1e8 }),
      await post(`${PG}/batch`, { sql: "SELECT 1" }),
      await get(`${VK}/cache/shepherd-edge:x`),
      await get(`${VK}/cache/%ff`),
      await post(`${VK}/cache/${tag}`, { value: 1, ttl: -1 }),
      await postText(`${VK}/cache/${tag}`, "{"),
      await post(`${VK}/batch`, {}),
      await get("/api/vultr/status"),
    ];
    const secrets = [DATABASE_URL, VALKEY_URL]
      .filter(Boolean)
      .map((address) => new URL(address))
      .flatMap(({ host, password }) => [host, decodeURIComponent(password)])
      .filter((word) => word.length > 3 && word !== new URL(EDGE_URL).host);
    for (const res of answers) {
      assert.ok(res.status >= 400 && res.status < 500, `${res.what} -> ${res.status}`);
      assert.doesNotMatch(
        res.text,
        /\b(SELECT|INSERT|UPDATE|VALUES)\b|relation "|constraint|_fkey|_pkey|SQLSTATE|sqlstate|\.rs:|\.js:|\/src\/|panicked|stack|postgres:\/\/|valkey:\/\/|redis:\/\/|127\.0\.0\.1|WRONGTYPE|\bERR\b/,
        res.what,
      );
      for (const secret of secrets) assert.ok(!res.text.includes(secret), `${res.what} reveals the store's address or password`);
    }
  });

  test("/openapi.json is the description in edge/openapi.json", async () => {
    const file = JSON.parse(await readFile(new URL("../../edge/openapi.json", import.meta.url), "utf8"));
    const served = ok(await get("/openapi.json"));
    assert.equal(served.openapi, "3.1.0");
    assert.deepEqual(served, file);
  });

  test("every GET route of the description is served", async () => {
    const { paths } = ok(await get("/openapi.json"));
    for (const [path, methods] of Object.entries(paths)) {
      const target = path.replace(/\{\w+\}/g, uid());
      if (methods.get) not5xx(await get(target));
      const res = await call("PATCH", target);
      refused(res, 405);
      for (const method of ["get", "post", "delete"])
        assert.equal((res.headers.get("allow") ?? "").includes(method.toUpperCase()), method in methods, `${method} ${path}`);
    }
  });

  test("many answers at once belong to their requests", async () => {
    const keys = Array.from({ length: 60 }, () => uid());
    await Promise.all(keys.map((key) => post(`${VK}/cache/${key}`, { value: key })));
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(keys.map((key) => get(`${VK}/cache/${key}`)));
      answers.forEach((res, i) => assert.deepEqual(ok(res), { value: keys[i] }));
    }
  });

  test("a request that the caller abandons does not disturb the others", async () => {
    const key = uid();
    ok(await post(`${VK}/cache/${key}`, { value: "x".repeat(100_000) }));
    for (let round = 0; round < 10; round++) {
      const abandoned = Array.from({ length: 5 }, (_, i) => {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), i);
        return fetch(`${EDGE_URL}${i % 2 ? `${VK}/cache/${uid()}` : `${PG}/products?category=${uid()}`}`, { signal: controller.signal })
          .then((res) => res.text())
          .catch(() => undefined);
      });
      assert.equal(ok(await get(`${VK}/cache/${key}`)).value.length, 100_000);
      missing(await get(`${VK}/cache/${uid()}`));
      await Promise.all(abandoned);
    }
  });
});
