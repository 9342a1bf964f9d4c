// Every rule of the contract's section 2 (products, profiles, orders, returns, stats, batch) and what
// sections 1 and 4 say about them. Rows are made by the tests themselves under ids of their own, so
// the database may be shared and dirty. One isolate is assumed where a test reads its own writes.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  PG,
  aboutNow,
  ageOf,
  answeredBy,
  get,
  instant,
  missing,
  needsPostgres,
  not5xx,
  ok,
  okAnswer,
  openPostgres,
  poll,
  post,
  postText,
  rawRequest,
  refused,
  sleep,
  uid,
} from "./client.mjs";

const BEHIND_THE_EDGE_MS = 60_000;

let pool;
const categories = []; // made by newProducts, removed at the end
before(async () => void (pool = await openPostgres()));
after(async () => {
  await pool?.query("DELETE FROM catalog WHERE category = ANY($1)", [categories]);
  await pool?.end();
});

const sql = async (text, values) => (await pool.query(text, values)).rows;
const profilePath = (user) => `${PG}/users/${user}/profile`;
const ordersPath = (user, query = "") => `${PG}/users/${user}/orders${query}`;
const products = (query) => get(`${PG}/products${query}`);
const returns = (query = "") => get(`${PG}/returns${query}`);

/** A user made through the API, as the browser client makes one. */
async function newUser() {
  const user = uid("user");
  ok(await post(profilePath(user), { preferences: {} }));
  return user;
}
const anOrder = (user, more) => ({ user_id: user, items: [{ product_id: "p", quantity: 2, price: 9.99, size: "M" }], total_amount: 19.98, ...more });
const aReturn = (order, more) => ({ order_id: order.order_id, user_id: order.user_id, product_id: "p", reason: "too small", ...more });
const newOrder = async (user) => ok(await post(`${PG}/orders`, anOrder(user)));

/** Inserts catalogue rows under a category of their own and gives its name. */
async function newProducts(rows, category = uid("cat")) {
  categories.push(category);
  for (const [i, row] of rows.entries()) {
    const full = { id: `${category}_${String(i).padStart(3, "0")}`, name: `Product ${i}`, price: 10, category, ...row };
    const names = Object.keys(full);
    await sql(`INSERT INTO catalog (${names}) VALUES (${names.map((_, n) => `$${n + 1}`)})`, Object.values(full));
  }
  return category;
}
const idsOf = (rows) => rows.map(({ id }) => id);
const suffixes = (rows) => rows.map(({ id }) => id.slice(-3));

const BAD_BODIES = ["", " ", "{", "[]", "[{}]", '"text"', "5", "null", "true", '{"a":1,}', '{"a":NaN}', "{}x"];
const WRONG_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""];
/** Asserts that malformed bodies are 400 and other content types 415, for a path that takes POST. */
async function refusesBadBodies(path, goodText) {
  for (const text of BAD_BODIES) refused(await postText(path, text), 400);
  refused(
    await rawRequest("POST", path, { headers: { "Content-Type": "application/json" }, body: Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]) }),
    400,
  );
  for (const type of WRONG_TYPES) refused(await rawRequest("POST", path, { headers: type ? { "Content-Type": type } : {}, body: goodText }), 415);
}

// ---------------------------------------------------------------- products

describe("products:", () => {
  const COLUMNS = [
    "id",
    "name",
    "description",
    "price",
    "category",
    "brand",
    "style",
    "color",
    "sizes",
    "stock",
    "image_url",
    "rating",
    "reviews_count",
    "created_at",
    "updated_at",
  ];

  test("a top-level array of rows with all columns, numbers as numbers, times in UTC with Z", async () => {
    for (const path of ["", "?"]) {
      const rows = ok(await products(path));
      assert.ok(Array.isArray(rows) && rows.length > 0 && rows.length <= 1000);
      for (const row of rows.filter(({ category }) => !category?.startsWith("cat_"))) {
        // not those of other tests
        assert.deepEqual(Object.keys(row).sort(), [...COLUMNS].sort());
        assert.equal(typeof row.price, "number");
        for (const name of ["stock", "rating", "reviews_count"]) assert.ok(row[name] === null || typeof row[name] === "number", name);
        for (const name of ["created_at", "updated_at"]) if (row[name] !== null) instant(row[name]);
      }
    }
  });

  test("all columns come back exactly, null as null", needsPostgres, async () => {
    const category = await newProducts([
      {
        description: "d 'quoted' \"é😀\" \\ \n",
        price: "99999999.99",
        brand: "B",
        style: "s",
        color: "c",
        sizes: '["S", 38, {"eu": 40.5}]',
        stock: 2147483647,
        image_url: "http://x/?a=1&b=2",
        rating: "4.75",
        reviews_count: -1,
        created_at: "2024-02-29 12:34:56.789",
        updated_at: "1999-12-31 23:59:59",
      },
      { price: "0.10", rating: "0.05", sizes: null, stock: null, reviews_count: null, created_at: null, updated_at: null },
    ]);
    const [first, second] = ok(await products(`?category=${category}`));
    const { created_at, updated_at, ...rest } = first;
    assert.deepEqual(rest, {
      id: `${category}_000`,
      name: "Product 0",
      description: "d 'quoted' \"é😀\" \\ \n",
      price: 99999999.99,
      category,
      brand: "B",
      style: "s",
      color: "c",
      sizes: ["S", 38, { eu: 40.5 }],
      stock: 2147483647,
      image_url: "http://x/?a=1&b=2",
      rating: 4.75,
      reviews_count: -1,
    });
    assert.equal(instant(created_at), Date.UTC(2024, 1, 29, 12, 34, 56, 789));
    assert.equal(instant(updated_at), Date.UTC(1999, 11, 31, 23, 59, 59));
    assert.deepEqual(second, {
      id: `${category}_001`,
      name: "Product 1",
      description: null,
      price: 0.1,
      category,
      brand: null,
      style: null,
      color: null,
      sizes: null,
      stock: null,
      image_url: null,
      rating: 0.05,
      reviews_count: null,
      created_at: null,
      updated_at: null,
    });
  });

  test("order: rating descending with null first, reviews_count descending, id ascending", needsPostgres, async () => {
    const category = await newProducts([
      { rating: 3, reviews_count: 5 },
      { rating: 5, reviews_count: 1 },
      { rating: 5, reviews_count: 9 },
      { rating: null, reviews_count: 1 },
      { rating: 3, reviews_count: 5 },
      { rating: null, reviews_count: 2 },
      { rating: 3, reviews_count: null },
    ]);
    assert.deepEqual(suffixes(ok(await products(`?category=${category}`))), ["005", "003", "002", "001", "006", "000", "004"]);
  });

  test("the seeded catalogue is ordered too", async () => {
    const rows = ok(await products(""));
    const rank = (value) => (value === null ? Infinity : value);
    for (let i = 1; i < rows.length; i++) {
      const [a, b] = [rows[i - 1], rows[i]];
      const order = rank(b.rating) - rank(a.rating) || rank(b.reviews_count) - rank(a.reviews_count) || 0;
      assert.ok(Number.isNaN(order) || order <= 0, `${a.id} before ${b.id}`);
    }
  });

  test("category and brand are exact and case-sensitive, filters combine with AND", needsPostgres, async () => {
    const category = await newProducts([
      { brand: "Acme", price: 1 },
      { brand: "acme", price: 2 },
      { brand: "Acme", price: 3 },
    ]);
    const found = async (query) => suffixes(ok(await products(`?category=${category}${query}`)));
    assert.deepEqual(await found("&brand=Acme"), ["000", "002"]);
    assert.deepEqual(await found("&brand=acme"), ["001"]);
    assert.deepEqual(await found("&brand=ACME"), []);
    assert.deepEqual(await found("&brand=Acm"), []);
    assert.deepEqual(await found("&brand=Acme&minPrice=2"), ["002"]);
    assert.deepEqual(await found("&brand=Acme&minPrice=2&maxPrice=2.5"), []);
    assert.deepEqual(ok(await products(`?category=${category.toUpperCase()}`)), []);
    assert.deepEqual(ok(await products(`?category=${category}%25`)), []);
    assert.deepEqual(ok(await products(`?category=${category.slice(0, -1)}_`)), []);
  });

  test("minPrice and maxPrice are inclusive and exact", needsPostgres, async () => {
    const category = await newProducts([{ price: "0.00" }, { price: "19.98" }, { price: "19.99" }, { price: "20.00" }]);
    const found = async (query) => suffixes(ok(await products(`?category=${category}&${query}`)));
    assert.deepEqual(await found("minPrice=19.99"), ["002", "003"]);
    assert.deepEqual(await found("maxPrice=19.99"), ["000", "001", "002"]);
    assert.deepEqual(await found("minPrice=19.99&maxPrice=19.99"), ["002"]);
    assert.deepEqual(await found("minPrice=19.991"), ["003"]);
    assert.deepEqual(await found("minPrice=20.01"), []);
    assert.deepEqual(await found("minPrice=30&maxPrice=10"), []);
  });

  test("minPrice=0, maxPrice=0 and limit=0 are real filters", needsPostgres, async () => {
    const category = await newProducts([{ price: 0 }, { price: 1 }]);
    const found = async (query) => suffixes(ok(await products(`?category=${category}&${query}`)));
    assert.deepEqual(await found("maxPrice=0"), ["000"]);
    assert.deepEqual(await found("minPrice=0"), ["000", "001"]);
    assert.deepEqual(await found("limit=0"), []);
    assert.deepEqual(await found("maxPrice=0.0"), ["000"]);
  });

  test("an empty value counts as absent", needsPostgres, async () => {
    const category = await newProducts([
      { price: 1, brand: "B" },
      { price: 2, brand: null },
    ]);
    assert.deepEqual(suffixes(ok(await products(`?category=${category}&brand=&minPrice=&maxPrice=&limit=`))), ["000", "001"]);
    assert.deepEqual(ok(await products("?category=&limit=5")), ok(await products("?limit=5")));
  });

  test("limit cuts the ordered list; it is capped at 1000, which is also the default", needsPostgres, async () => {
    const category = uid("cat");
    await sql("INSERT INTO catalog (id, name, price, category) SELECT $1 || '_' || lpad(i::text, 5, '0'), 'n', 1, $1 FROM generate_series(1, 1005) i", [
      category,
    ]);
    try {
      const all = idsOf(ok(await products(`?category=${category}`)));
      assert.equal(all.length, 1000);
      assert.equal(all[0], `${category}_00001`);
      for (const limit of [1, 2, 999, 1000]) assert.deepEqual(idsOf(ok(await products(`?category=${category}&limit=${limit}`))), all.slice(0, limit));
      for (const limit of [1001, 5000]) assert.deepEqual(idsOf(ok(await products(`?category=${category}&limit=${limit}`))), all);
    } finally {
      await sql("DELETE FROM catalog WHERE category = $1", [category]);
    }
  });

  test("wrong numbers are 400", async () => {
    for (const bad of [
      "abc",
      "NaN",
      "nan",
      "Infinity",
      "-Infinity",
      "1,5",
      "1.2.3",
      "--1",
      "0x10",
      "1 2",
      "null",
      "undefined",
      "true",
      "[]",
      "%00",
      "1%00",
      "１２",
    ]) {
      for (const name of ["minPrice", "maxPrice", "limit"]) refused(await products(`?${name}=${bad}`), 400);
    }
    for (const bad of ["-1", "1.5", "-0.5"]) refused(await products(`?limit=${bad}`), 400);
  });

  test("extreme numbers are answered or refused, never 5xx", async () => {
    for (const value of [
      "1e30",
      "-1e30",
      "1e308",
      "1e400",
      "5e-324",
      "99999999999999999999",
      "0.000000000000000000001",
      "-5",
      "-0",
      "1e3",
      ".5",
      "5.",
      "+5",
      "1".repeat(2000),
    ]) {
      for (const name of ["minPrice", "maxPrice", "limit"]) not5xx(await products(`?${name}=${value}`));
    }
    assert.deepEqual(ok(await products("?minPrice=100000000000")), []);
  });

  test("a known parameter given twice is 400, an unknown one is ignored", async () => {
    for (const name of ["category", "brand", "minPrice", "maxPrice", "limit"]) refused(await products(`?${name}=1&${name}=1`), 400);
    ok(await products("?limit=1&utm=1&utm=2&category[]=x&Limit=abc"));
  });

  test("no match gives []", async () => assert.deepEqual(ok(await products(`?category=${uid()}`)), []));

  test("parameter values are decoded as forms are: percent-encoding, + for space", needsPostgres, async () => {
    for (const brand of ["H&M + Co", "a b", "100%", "é😀", "x=y;z", "it's", "a/b?c#d", "back\\slash", "%41"]) {
      const category = await newProducts([{ brand }]);
      assert.deepEqual(suffixes(ok(await products(`?${new URLSearchParams({ category, brand })}`))), ["000"]);
      assert.deepEqual(suffixes(ok(await products(`?category=${category}&brand=${encodeURIComponent(brand)}`))), ["000"]);
    }
  });

  test("parameters are bound, never spliced", async () => {
    for (const attack of ["' OR 1=1 --", "'; DROP TABLE catalog; --", "$1", "\\' OR ''='", "x') UNION SELECT * FROM user_profiles --"]) {
      assert.deepEqual(ok(await products(`?${new URLSearchParams({ category: attack })}`)), []);
      refused(await products(`?${new URLSearchParams({ minPrice: attack })}`), 400);
    }
  });

  test("NUL in a parameter is 400, other odd encodings are never 5xx", async () => {
    refused(await products("?category=%00"), 400);
    refused(await products("?brand=a%00b"), 400);
    for (const odd of ["?category=50%", "?category=%zz", "?category=%ff", "?%", "?&&&", "?=", "?=x", "?category", `?category=${"x".repeat(4000)}`])
      not5xx(await rawRequest("GET", `${PG}/products${odd}`));
  });

  test("a price that JSON cannot express is never 5xx and never a broken answer", needsPostgres, async () => {
    const category = await newProducts([{ price: "NaN", rating: "NaN" }]);
    try {
      assert.ok(Array.isArray(ok(await products(`?category=${category}`))));
    } finally {
      await sql("DELETE FROM catalog WHERE category = $1", [category]);
    }
  });

  test("unknown parameters and headers change neither the answer nor the cache entry", needsPostgres, async () => {
    const category = await newProducts([{}]);
    const { text } = okAnswer(await products(`?category=${category}`));
    const headers = {
      "X-Forwarded-Host": "evil.example",
      "X-Original-URL": `${PG}/health`,
      "X-HTTP-Method-Override": "POST",
      "X-Forwarded-For": "1.2.3.4",
      "Accept-Language": "de",
    };
    for (const res of [
      await products(`?utm_source=x&category=${category}`),
      await products(`?category=${category}&`),
      await get(`${PG}/products/?category=${category}`),
      await get(`${PG}/products?category=${category}`, headers),
    ]) {
      ok(res);
      assert.equal(res.text, text);
      assert.equal(answeredBy(res), "L1");
    }
  });

  test("Cache-Status names the tier: a cold read comes from L2 or L3, the next from L1, with Age", needsPostgres, async () => {
    const category = await newProducts([{}]);
    assert.notEqual(answeredBy(okAnswer(await products(`?category=${category}`))), "L1");
    assert.equal(answeredBy(okAnswer(await products(`?category=${category}`))), "L1");
    await poll(
      "an L1 answer of age 1 or more",
      5_000,
      async () => {
        const res = await products(`?category=${category}`);
        return answeredBy(res) === "L1" && ageOf(res) >= 1;
      },
      200,
    );
  });

  test("ETag and If-None-Match give 304 without a body", needsPostgres, async () => {
    const category = await newProducts([{}]);
    const etag = okAnswer(await products(`?category=${category}`)).headers.get("etag");
    assert.ok(etag, "no ETag");
    const same = await get(`${PG}/products?category=${category}`, { "If-None-Match": etag });
    assert.deepEqual([same.status, same.text], [304, ""]);
    ok(await get(`${PG}/products?category=${category}`, { "If-None-Match": '"another"' }));
  });
});

// ---------------------------------------------------------------- profiles

describe("profile:", () => {
  const COLUMNS = ["user_id", "email", "first_name", "last_name", "preferences", "body_measurements", "created_at", "updated_at"];

  test("an unknown user is 404; a remembered miss ends with the next write", async () => {
    const user = uid("user");
    for (let i = 0; i < 3; i++) missing(await get(profilePath(user)));
    ok(await post(profilePath(user), { preferences: { a: 1 } }));
    assert.deepEqual(ok(await get(profilePath(user))).preferences, { a: 1 });
    ok(await post(profilePath(user), { preferences: { a: 2 } }));
    assert.deepEqual(ok(await get(profilePath(user))).preferences, { a: 2 });
  });

  test("saving for a new user creates the row, with an e-mail address of its own, and answers it with success:true", async () => {
    const [one, two] = [uid("user"), uid("user")];
    const saved = ok(await post(profilePath(one), {}));
    assert.deepEqual(Object.keys(saved).sort(), [...COLUMNS, "success"].sort());
    assert.equal(saved.success, true);
    assert.deepEqual([saved.user_id, saved.preferences, saved.body_measurements, saved.first_name, saved.last_name], [one, {}, {}, null, null]);
    assert.match(saved.email, /^[^@\s]+@[^@\s]+$/);
    aboutNow(instant(saved.created_at));
    assert.notEqual(ok(await post(profilePath(two), {})).email, saved.email);
    const { success, ...row } = saved;
    assert.deepEqual(ok(await get(profilePath(one))), row);
  });

  test("an absent field keeps its value, null resets it to {}, an object replaces the whole field", async () => {
    const user = uid("user");
    const fields = async (body) => {
      const { preferences, body_measurements } = ok(await post(profilePath(user), body));
      const row = ok(await get(profilePath(user)));
      assert.deepEqual([row.preferences, row.body_measurements], [preferences, body_measurements]);
      return [preferences, body_measurements];
    };
    assert.deepEqual(await fields({ preferences: { a: 1, b: { c: 2 } }, body_measurements: { h: 170.5 } }), [{ a: 1, b: { c: 2 } }, { h: 170.5 }]);
    assert.deepEqual(await fields({ body_measurements: { w: 60 } }), [{ a: 1, b: { c: 2 } }, { w: 60 }]);
    assert.deepEqual(await fields({ preferences: { b: { d: 3 } } }), [{ b: { d: 3 } }, { w: 60 }]);
    assert.deepEqual(await fields({}), [{ b: { d: 3 } }, { w: 60 }]);
    assert.deepEqual(await fields({ preferences: null }), [{}, { w: 60 }]);
    assert.deepEqual(await fields({ preferences: {}, body_measurements: null }), [{}, {}]);
  });

  test("bodyMeasurements is accepted as the former name of body_measurements", async () => {
    const user = uid("user");
    assert.deepEqual(ok(await post(profilePath(user), { bodyMeasurements: { h: 1 } })).body_measurements, { h: 1 });
    assert.deepEqual(ok(await post(profilePath(user), { bodyMeasurements: null })).body_measurements, {});
  });

  test("null for a new user creates {} fields", async () => {
    const saved = ok(await post(profilePath(uid("user")), { preferences: null, body_measurements: null }));
    assert.deepEqual([saved.preferences, saved.body_measurements], [{}, {}]);
  });

  test("a field that is neither object nor null is 400 and nothing is stored", async () => {
    for (const name of ["preferences", "body_measurements", "bodyMeasurements"]) {
      for (const bad of [[], [{}], "x", "", 0, 5, true, false]) {
        const user = uid("user");
        refused(await post(profilePath(user), { [name]: bad }), 400);
        missing(await get(profilePath(user)));
      }
    }
    const user = await newUser();
    refused(await post(profilePath(user), { preferences: { new: 1 }, body_measurements: 5 }), 400);
    assert.deepEqual(ok(await get(profilePath(user))).preferences, {});
  });

  test("an existing e-mail address is never overwritten and other columns are ignored; created_at stays, updated_at advances", needsPostgres, async () => {
    const user = uid("user");
    const email = `${user}@example.test`;
    await sql(
      "INSERT INTO user_profiles (user_id, email, first_name, preferences, created_at, updated_at) VALUES ($1, $2, 'Ann', '{\"p\":1}', '2020-01-02 03:04:05', '2020-01-02 03:04:05')",
      [user, email],
    );
    const saved = ok(
      await post(profilePath(user), {
        preferences: { p: 2 },
        email: "evil@example.test",
        first_name: "Eve",
        last_name: "L",
        user_id: "other",
        created_at: "2000-01-01",
        success: false,
      }),
    );
    assert.deepEqual(
      [saved.user_id, saved.email, saved.first_name, saved.last_name, saved.preferences, saved.success],
      [user, email, "Ann", null, { p: 2 }, true],
    );
    assert.equal(instant(saved.created_at), Date.UTC(2020, 0, 2, 3, 4, 5));
    aboutNow(instant(saved.updated_at));
    await sleep(5);
    assert.ok(instant(ok(await post(profilePath(user), {})).updated_at) >= instant(saved.updated_at));
    assert.equal((await sql("SELECT email FROM user_profiles WHERE user_id = $1", [user]))[0].email, email);
  });

  test("saving the same new user ten times at once succeeds ten times and makes one row", async () => {
    const user = uid("user");
    const saved = await Promise.all(Array.from({ length: 10 }, (_, i) => post(profilePath(user), { preferences: { i } })));
    const emails = new Set(saved.map((res) => ok(res).email));
    assert.equal(emails.size, 1);
    if (pool) assert.equal((await sql("SELECT count(*)::int AS n FROM user_profiles WHERE user_id = $1", [user]))[0].n, 1);
  });

  test("user ids: 1 to 255 characters, else 400", async () => {
    for (const user of [uid().padEnd(255, "x"), uid() + "😀".repeat(200)]) {
      ok(await post(profilePath(encodeURIComponent(user)), { preferences: { long: true } }));
      assert.equal(ok(await get(profilePath(encodeURIComponent(user)))).user_id, user);
      assert.deepEqual(ok(await get(ordersPath(encodeURIComponent(user)))), []);
    }
    for (const user of ["x".repeat(256), "é".repeat(256), "x".repeat(3000)]) {
      refused(await get(profilePath(encodeURIComponent(user))), 400);
      refused(await post(profilePath(encodeURIComponent(user)), {}), 400);
      refused(await get(ordersPath(encodeURIComponent(user))), 400);
    }
  });

  test("user ids with odd characters round-trip, decoded exactly once", async () => {
    const plain = [...":@|;,=&$!'()*[]^~+-_.\"<>{}`é😀 "].map((char) => [char, char]);
    for (const [sent, meant] of [
      ...plain,
      ["%2F", "/"],
      ["%20", " "],
      ["%25", "%"],
      ["%2541", "%41"],
      ["%3F", "?"],
      ["%23", "#"],
      ["%5C", "\\"],
      ["e%CC%81", "e\u0301"],
      ["..%2F", "../"],
    ]) {
      const tag = uid();
      const saved = ok(await post(profilePath(`${tag}${sent}x`), { preferences: { meant } }));
      assert.equal(saved.user_id, `${tag}${meant}x`);
      assert.deepEqual(ok(await get(profilePath(`${tag}${sent}x`))).preferences, { meant });
      assert.deepEqual(ok(await get(ordersPath(`${tag}${sent}x`))), []);
    }
  });

  test("user ids are case-sensitive and not normalised", async () => {
    const tag = uid();
    const users = [`${tag}A`, `${tag}a`, `${tag}\u00e9`, `${tag}e\u0301`];
    for (const user of users) ok(await post(profilePath(user), { preferences: { user } }));
    for (const user of users) assert.deepEqual(ok(await get(profilePath(user))).preferences, { user });
  });

  test("malformed percent-encoding and NUL in a user id are 400", async () => {
    for (const bad of ["50%", "%zz", "%ff", "%c3", "%ED%A0%80", "%00", "a%00b"]) {
      refused(await rawRequest("GET", profilePath(bad)), 400);
      refused(await rawRequest("GET", ordersPath(bad)), 400);
      refused(await rawRequest("POST", profilePath(bad), { headers: { "Content-Type": "application/json" }, body: "{}" }), 400);
    }
  });

  test("malformed bodies are 400, other content types 415, and nothing is written", async () => {
    const user = uid("user");
    await refusesBadBodies(profilePath(user), '{"preferences":{}}');
    missing(await get(profilePath(user)));
  });

  test("\\u0000 and lone surrogates in jsonb are 400, an escaped backslash before u0000 is data", async () => {
    const user = await newUser();
    for (const text of [
      '{"a":"\\u0000"}',
      '{"a":["x\\u0000y"]}',
      '{"\\u0000":1}',
      '{"a":"\\ud800"}',
      '{"a":"\\udc00"}',
      '{"a":"\\ud800\\u0041"}',
      '{"\\udfff":1}',
    ]) {
      refused(await postText(profilePath(user), `{"preferences":${text}}`), 400);
      refused(await postText(profilePath(user), `{"body_measurements":${text}}`), 400);
    }
    assert.deepEqual(ok(await get(profilePath(user))).preferences, {});
    assert.deepEqual(ok(await postText(profilePath(user), '{"preferences":{"a":"\\\\u0000","b":"\\ud83d\\ude00","c":"\\u0001"}}')).preferences, {
      a: "\\u0000",
      b: "😀",
      c: "\u0001",
    });
  });

  test("jsonb numbers are exact, duplicate keys keep the last", async () => {
    const user = await newUser();
    const saved = okAnswer(await postText(profilePath(user), '{"preferences":{"a":0.1,"b":1e21,"c":5e-324,"d":9007199254740993,"e":-1.5e-7,"x":1,"x":2}}'));
    assert.deepEqual(saved.body.preferences, { a: 0.1, b: 1e21, c: 5e-324, d: 9007199254740992, e: -1.5e-7, x: 2 });
    assert.deepEqual(ok(await get(profilePath(user))).preferences, saved.body.preferences);
  });

  test("JSON that PostgreSQL cannot hold is refused, never 5xx", async () => {
    const user = await newUser();
    const nested = (depth) => "[".repeat(depth) + "]".repeat(depth);
    for (const value of [nested(10_000), nested(200_000), "1e200000", "-1e999999999", "1e-20000", `1${"0".repeat(140_000)}`]) {
      const res = await postText(profilePath(user), `{"preferences":{"x":${value}}}`);
      if (res.status !== 200) refused(res, 400, 413);
    }
    ok(await get(profilePath(user)));
  });

  test("a body over 10 MiB is 413 and nothing is written; one MiB is fine", async () => {
    const user = uid("user");
    refused(
      await rawRequest("POST", profilePath(user), {
        headers: { "Content-Type": "application/json" },
        body: `{"preferences":{"x":"${"x".repeat(10 * 1024 * 1024)}"}}`,
      }),
      413,
    );
    missing(await get(profilePath(user)));
    ok(await post(profilePath(user), { preferences: { x: "x".repeat(1024 * 1024) } }));
    assert.equal(ok(await get(profilePath(user))).preferences.x.length, 1024 * 1024);
  });

  test("GET is answered from L1 the second time, with ETag and 304", async () => {
    const user = await newUser();
    okAnswer(await get(profilePath(user)));
    const warm = okAnswer(await get(profilePath(user)));
    assert.equal(answeredBy(warm), "L1");
    ageOf(warm);
    const same = await get(profilePath(user), { "If-None-Match": warm.headers.get("etag") });
    assert.deepEqual([same.status, same.text], [304, ""]);
    ok(await post(profilePath(user), { preferences: { changed: 1 } }));
    assert.deepEqual(ok(await get(profilePath(user), { "If-None-Match": warm.headers.get("etag") })).preferences, { changed: 1 });
  });

  test("a read that races a write does not bring the old value back", needsPostgres, async () => {
    for (let i = 0; i < 20; i++) {
      const user = uid("user");
      await sql('INSERT INTO user_profiles (user_id, email, preferences) VALUES ($1, $2, \'{"v":"old"}\')', [user, `${user}@example.test`]);
      const path = profilePath(user);
      await Promise.all([get(path), get(path), post(path, { preferences: { v: "new" } }), get(path), get(path)]);
      for (let n = 0; n < 3; n++) assert.deepEqual(ok(await get(path)).preferences, { v: "new" });
    }
  });
});

// ---------------------------------------------------------------- orders

describe("orders:", () => {
  const COLUMNS = [
    "order_id",
    "user_id",
    "items",
    "total_amount",
    "status",
    "shipping_info",
    "predicted_return_rate",
    "stripe_payment_intent_id",
    "payment_intent_id",
    "created_at",
    "updated_at",
  ];

  test("an Idempotency-Key is printable ASCII; the same one finds the same order, and takes no other", async () => {
    const user = await newUser();
    const place = (key, order = anOrder(user)) => post(`${PG}/orders`, order, { "Idempotency-Key": key });
    const key = `a key, ~${uid()}!`;
    const { order_id } = ok(await place(key));
    assert.equal(ok(await place(`\t ${key} `)).order_id, order_id);
    refused(await place(key, { ...anOrder(user), total_amount: 1 }), 422);
    for (const malformed of ["", " \t", "a\tb", "caf\u00e9", "k".repeat(256)]) refused(await place(malformed), 400);
    ok(await place("k".repeat(255)));
  });

  test("placing answers the stored order with an id of the server and the alias orderId", async () => {
    const user = await newUser();
    const order = ok(await post(`${PG}/orders`, anOrder(user)));
    assert.match(order.order_id, /^order_\d{13}_[0-9A-Za-z_-]{8,}$/);
    aboutNow(Number(order.order_id.split("_")[1]));
    assert.equal(order.orderId, order.order_id);
    const { items, total_amount } = anOrder(user);
    assert.deepEqual([order.user_id, order.items, order.total_amount, order.status], [user, items, total_amount, "pending"]);
    aboutNow(instant(order.created_at));
  });

  test("ids and times in the body are ignored, also in the answer", async () => {
    const user = await newUser();
    const order = ok(
      await post(
        `${PG}/orders`,
        anOrder(user, { order_id: "mine", orderId: "mine", created_at: "2001-01-01T00:00:00Z", updated_at: "2001-01-01T00:00:00Z", createdAt: 1, id: "mine" }),
      ),
    );
    assert.match(order.order_id, /^order_/);
    assert.equal(order.orderId, order.order_id);
    aboutNow(instant(order.created_at));
    assert.doesNotMatch(JSON.stringify(order), /mine|2001/);
    assert.equal(ok(await get(ordersPath(user)))[0].order_id, order.order_id);
  });

  test("the list has all columns, numbers as numbers, times with Z; an unknown user has []", needsPostgres, async () => {
    const user = await newUser();
    const order = await newOrder(user);
    await sql("UPDATE orders SET shipping_info = '{\"city\":\"Ulm\"}', predicted_return_rate = 0.25, stripe_payment_intent_id = 'pi_1' WHERE order_id = $1", [
      order.order_id,
    ]);
    const [row] = ok(await get(ordersPath(user)));
    assert.deepEqual(Object.keys(row).sort(), [...COLUMNS].sort());
    assert.deepEqual([row.order_id, row.items, row.total_amount, row.status, row.payment_intent_id], [order.order_id, order.items, 19.98, "pending", null]);
    assert.deepEqual([row.shipping_info, row.predicted_return_rate, row.stripe_payment_intent_id], [{ city: "Ulm" }, 0.25, "pi_1"]);
    assert.equal(instant(row.created_at), instant(order.created_at));
    instant(row.updated_at);
    assert.deepEqual(ok(await get(ordersPath(uid()))), []);
  });

  test("items are opaque and status is kept", async () => {
    const user = await newUser();
    const items = [{ product_id: "x", quantity: 0.1, price: 1e21, nested: { a: [null, true, "é😀"] } }, { anything: 5e-324 }];
    const order = ok(await post(`${PG}/orders`, anOrder(user, { items, status: "confirmed" })));
    assert.deepEqual([order.items, order.status], [items, "confirmed"]);
    assert.deepEqual(ok(await get(ordersPath(user)))[0].items, items);
  });

  test("total_amount is rounded to two decimals", async () => {
    const user = await newUser();
    for (const [amount, stored] of [
      [0, 0],
      [0.1 + 0.2, 0.3],
      [19.999, 20],
      [19.994, 19.99],
      [0.004, 0],
      [1e-9, 0],
      [12345678.9, 12345678.9],
      [99999999.99, 99999999.99],
      [5e-324, 0],
    ]) {
      const order = ok(await post(`${PG}/orders`, anOrder(user, { total_amount: amount })));
      assert.equal(order.total_amount, stored, `for ${amount}`);
      if (pool) assert.equal(Number((await sql("SELECT total_amount FROM orders WHERE order_id = $1", [order.order_id]))[0].total_amount), stored);
    }
  });

  test("missing and ill-typed fields, negative or too large amounts are 400 and nothing is stored", async () => {
    const user = await newUser();
    const { user_id, items, total_amount } = anOrder(user);
    const bad = [
      {},
      { items, total_amount },
      { user_id, total_amount },
      { user_id, items },
      ...[null, 5, "", [], {}, true, "x".repeat(256), "a\u0000b"].map((v) => anOrder(user, { user_id: v })),
      ...[null, {}, "x", 5, true, "[]"].map((v) => anOrder(user, { items: v })),
      ...[null, "19.99", "", true, [], {}, -1, -0.01, -1e-9, 1e8, 99999999.995, 99999999.999, 1e21, 1e308].map((v) => anOrder(user, { total_amount: v })),
      ...[5, true, [], {}, "x".repeat(51), "a\u0000b"].map((v) => anOrder(user, { status: v })),
    ];
    for (const body of bad) refused(await post(`${PG}/orders`, body), 400);
    refused(await postText(`${PG}/orders`, `{"user_id":"${user}","items":[],"total_amount":1e400}`), 400);
    assert.deepEqual(ok(await get(ordersPath(user))), []);
    if (pool) assert.deepEqual(await sql("SELECT * FROM orders WHERE user_id = $1", [user]), []);
  });

  test("an unknown user is 409 and nothing is stored", async () => {
    const user = uid("user");
    refused(await post(`${PG}/orders`, anOrder(user)), 409);
    if (pool) assert.deepEqual(await sql("SELECT * FROM orders WHERE user_id = $1", [user]), []);
    missing(await get(profilePath(user)));
  });

  test("\\u0000, lone surrogates, absurd depth and numbers in items are refused, never 5xx", async () => {
    const user = await newUser();
    const place = (items) => postText(`${PG}/orders`, `{"user_id":"${user}","items":${items},"total_amount":1}`);
    for (const items of ['["\\u0000"]', '[{"\\u0000":1}]', '["\\ud800"]', '["\\udc00\\ud800"]', "[".repeat(200_000) + "]".repeat(200_000)])
      refused(await place(items), 400);
    for (const items of ["[1e200000]", "[".repeat(10_000) + "]".repeat(10_000)]) not5xx(await place(items));
    refused(await postText(`${PG}/orders`, `{"user_id":"\\ud800","items":[],"total_amount":1}`), 400);
    assert.deepEqual(ok(await place('["\\\\u0000"]')).items, ["\\u0000"]);
  });

  test("malformed bodies are 400, other content types 415, and nothing is written", async () => {
    const user = await newUser();
    await refusesBadBodies(`${PG}/orders`, JSON.stringify(anOrder(user)));
    assert.deepEqual(ok(await get(ordersPath(user))), []);
  });

  test("newest first; equal times are in a stable order by id", needsPostgres, async () => {
    const user = await newUser();
    for (const [id, time] of [
      ["b", "2024-01-01 00:00:00.5"],
      ["a", "2024-01-01 00:00:00.5"],
      ["d", "2024-01-02 00:00:00"],
      ["c", "2023-01-01 00:00:00"],
    ]) {
      await sql("INSERT INTO orders (order_id, user_id, items, total_amount, created_at) VALUES ($1, $2, '[]', 1, $3)", [`${user}_${id}`, user, time]);
    }
    const order = ok(await get(ordersPath(user)))
      .map(({ order_id }) => order_id.at(-1))
      .join("");
    assert.ok(order === "dabc" || order === "dbac", order);
  });

  test("limit: default 50, 0 means 50, capped at 1000; a bad one is 400", needsPostgres, async () => {
    const user = await newUser();
    await sql(
      "INSERT INTO orders (order_id, user_id, items, total_amount, created_at) SELECT $1 || '_' || i, $1, '[]', i, timestamp '2024-01-01' + i * interval '1 second' FROM generate_series(1, 1005) i",
      [user],
    );
    const amounts = async (query) => ok(await get(ordersPath(user, query))).map(({ total_amount }) => total_amount);
    const newest = (n) => Array.from({ length: n }, (_, i) => 1005 - i);
    for (const query of ["", "?", "?limit=", "?limit=0", "?limit=50"]) assert.deepEqual(await amounts(query), newest(50), query);
    for (const limit of [1, 7, 51, 1000]) assert.deepEqual(await amounts(`?limit=${limit}`), newest(limit));
    for (const limit of [1001, 100_000]) assert.deepEqual(await amounts(`?limit=${limit}`), newest(1000));
    for (const bad of ["abc", "-1", "1.5", "NaN", "Infinity", "0x10", "1,5", "null", "%00"]) refused(await get(ordersPath(user, `?limit=${bad}`)), 400);
    refused(await get(ordersPath(user, "?limit=1&limit=1")), 400);
    not5xx(await get(ordersPath(user, "?limit=99999999999999999999")));
    await sql("DELETE FROM orders WHERE user_id = $1", [user]);
  });

  test("lists for several limits, remembered before, show a new order at once", async () => {
    const user = await newUser();
    const queries = ["", "?limit=1", "?limit=2", "?limit=50", "?limit=0", "?limit=1000", "?utm=1"];
    for (const query of queries) assert.deepEqual(ok(await get(ordersPath(user, query))), []);
    const first = await newOrder(user);
    for (const query of queries)
      assert.deepEqual(
        ok(await get(ordersPath(user, query))).map(({ order_id }) => order_id),
        [first.order_id],
        query,
      );
    await sleep(5);
    const second = await newOrder(user);
    for (const query of queries) {
      const ids = ok(await get(ordersPath(user, query))).map(({ order_id }) => order_id);
      assert.deepEqual(ids, [second.order_id, first.order_id].slice(0, query === "?limit=1" ? 1 : 2), query);
    }
  });

  test("twenty orders at once are twenty rows with twenty ids, none lost, none doubled", async () => {
    const user = await newUser();
    const placed = await Promise.all(Array.from({ length: 20 }, (_, i) => post(`${PG}/orders`, anOrder(user, { total_amount: i }))));
    const ids = placed.map((res) => ok(res).order_id).sort();
    assert.equal(new Set(ids).size, 20);
    assert.deepEqual(
      ok(await get(ordersPath(user)))
        .map(({ order_id }) => order_id)
        .sort(),
      ids,
    );
    if (pool) assert.equal((await sql("SELECT count(*)::int AS n FROM orders WHERE user_id = $1", [user]))[0].n, 20);
  });

  test("a list read that races an order does not hide it afterwards", async () => {
    for (let i = 0; i < 15; i++) {
      const user = await newUser();
      const [, , res] = await Promise.all([
        get(ordersPath(user)),
        get(ordersPath(user)),
        post(`${PG}/orders`, anOrder(user)),
        get(ordersPath(user)),
        get(ordersPath(user)),
      ]);
      const { order_id } = ok(res);
      for (let n = 0; n < 3; n++) assert.equal(ok(await get(ordersPath(user)))[0]?.order_id, order_id);
    }
  });

  test("the second read comes from L1", async () => {
    const user = await newUser();
    okAnswer(await get(ordersPath(user)));
    assert.equal(answeredBy(okAnswer(await get(ordersPath(user)))), "L1");
  });
});

// ---------------------------------------------------------------- returns

describe("returns:", () => {
  const COLUMNS = ["return_id", "order_id", "product_id", "user_id", "reason", "status", "created_at"];

  test("creating answers the stored return with an id of the server and the alias returnId", async () => {
    const order = await newOrder(await newUser());
    const body = aReturn(order, { return_id: "mine", returnId: "mine", created_at: "2001-01-01", status: undefined });
    const ret = ok(await post(`${PG}/returns`, body));
    assert.match(ret.return_id, /^return_\d{13}_[0-9A-Za-z_-]{8,}$/);
    aboutNow(Number(ret.return_id.split("_")[1]));
    assert.equal(ret.returnId, ret.return_id);
    assert.deepEqual([ret.order_id, ret.user_id, ret.product_id, ret.reason, ret.status], [order.order_id, order.user_id, "p", "too small", "pending"]);
    aboutNow(instant(ret.created_at));
    const [row] = ok(await returns(`?userId=${order.user_id}`));
    assert.deepEqual(Object.keys(row).sort(), [...COLUMNS].sort());
    const { returnId, success, ...stored } = ret;
    assert.deepEqual(row, stored);
  });

  test("an unknown order or user is 409 and nothing is stored", async () => {
    const order = await newOrder(await newUser());
    refused(await post(`${PG}/returns`, aReturn(order, { order_id: uid("order") })), 409);
    refused(await post(`${PG}/returns`, aReturn(order, { user_id: uid("user") })), 409);
    assert.deepEqual(ok(await returns(`?userId=${order.user_id}`)), []);
    if (pool) assert.deepEqual(await sql("SELECT * FROM returns WHERE order_id = $1", [order.order_id]), []);
  });

  test("missing and ill-typed fields are 400 and nothing is stored", async () => {
    const order = await newOrder(await newUser());
    const bad = ["order_id", "user_id", "product_id", "reason"].map((name) => aReturn(order, { [name]: undefined }));
    for (const name of ["order_id", "user_id", "product_id"]) {
      for (const value of [null, 5, "", [], {}, true, "x".repeat(256), "a\u0000b"]) bad.push(aReturn(order, { [name]: value }));
    }
    for (const reason of [5, [], {}, true, "a\u0000b"]) bad.push(aReturn(order, { reason }));
    for (const body of bad) refused(await post(`${PG}/returns`, body), 400);
    refused(await postText(`${PG}/returns`, JSON.stringify(aReturn(order)).replace("too small", "\\ud800")), 400);
    assert.deepEqual(ok(await returns(`?userId=${order.user_id}`)), []);
  });

  test("malformed bodies are 400, other content types 415, and nothing is written", async () => {
    const order = await newOrder(await newUser());
    await refusesBadBodies(`${PG}/returns`, JSON.stringify(aReturn(order)));
    assert.deepEqual(ok(await returns(`?userId=${order.user_id}`)), []);
  });

  test("lists for each pair of filters, remembered before, show a new return at once, newest first", async () => {
    const order = await newOrder(await newUser());
    const [product, other] = [uid("p"), uid("p")];
    const lists = {
      [`?userId=${order.user_id}`]: [product, other],
      [`?productId=${product}`]: [product],
      [`?userId=${order.user_id}&productId=${product}`]: [product],
      [`?productId=${product}&userId=${order.user_id}`]: [product],
      [`?userId=${order.user_id}&productId=${other}`]: [other],
      [`?userId=${uid()}&productId=${product}`]: [],
      [`?userId=${order.user_id}&productId=`]: [product, other],
    };
    const seen = async (query) => ok(await returns(query)).map(({ product_id }) => product_id);
    for (const query of Object.keys(lists)) assert.deepEqual(await seen(query), [], query);
    await returns();
    const made = {};
    for (const product_id of [other, product]) {
      made[product_id] = ok(await post(`${PG}/returns`, aReturn(order, { product_id }))).return_id;
      await sleep(5);
    }
    for (const [query, expected] of Object.entries(lists)) assert.deepEqual(await seen(query), expected, query);
    const all = ok(await returns());
    for (const id of Object.values(made)) assert.ok(all.length === 1000 || all.some(({ return_id }) => return_id === id), "not in the unfiltered list");
  });

  test("the list without filters is an array of at most 1000, newest first; a bare ? and empty values work", async () => {
    for (const query of ["", "?", "?userId=&productId=", "?utm=1"]) {
      const rows = ok(await returns(query));
      assert.ok(Array.isArray(rows) && rows.length <= 1000);
      const times = rows.map(({ created_at }) => (created_at === null ? Infinity : instant(created_at)));
      for (let i = 1; i < times.length; i++) assert.ok(times[i - 1] >= times[i]);
    }
    ok(await get(`${PG}/returns/`));
  });

  test("no match gives []; a filter given twice, or with NUL, is 400", async () => {
    assert.deepEqual(ok(await returns(`?userId=${uid()}`)), []);
    assert.deepEqual(ok(await returns(`?productId=${uid()}`)), []);
    for (const bad of ["?userId=a&userId=b", "?productId=a&productId=a", "?userId=%00", "?productId=a%00"]) refused(await returns(bad), 400);
    not5xx(await returns(`?userId=${"x".repeat(256)}`));
  });

  test("parameters are bound, never spliced", async () => {
    assert.deepEqual(ok(await returns(`?${new URLSearchParams({ userId: "' OR 1=1 --" })}`)), []);
    assert.deepEqual(ok(await returns(`?${new URLSearchParams({ userId: "x", productId: "' OR ''='" })}`)), []);
  });

  test("ten returns at once are ten rows, none lost, none doubled", async () => {
    const order = await newOrder(await newUser());
    const made = await Promise.all(Array.from({ length: 10 }, () => post(`${PG}/returns`, aReturn(order))));
    const ids = made.map((res) => ok(res).return_id).sort();
    assert.equal(new Set(ids).size, 10);
    assert.deepEqual(
      ok(await returns(`?userId=${order.user_id}`))
        .map(({ return_id }) => return_id)
        .sort(),
      ids,
    );
  });
});

// ---------------------------------------------------------------- behind the edge, stats, SQL

describe("changes made directly in PostgreSQL become visible within 60 s and old values never return:", { concurrency: true, ...needsPostgres }, () => {
  /** Polls until `isNew` holds, then makes sure that it stays so. */
  async function becomesVisible(isNew) {
    await poll("the change", BEHIND_THE_EDGE_MS, isNew, 500);
    for (let i = 0; i < 10; i++) assert.ok(await isNew(), "the old value came back");
  }

  test("products", async () => {
    const category = await newProducts([{ price: 1 }]);
    assert.equal(ok(await products(`?category=${category}`))[0].price, 1);
    await sql("UPDATE catalog SET price = 2 WHERE category = $1", [category]);
    await becomesVisible(async () => ok(await products(`?category=${category}`))[0].price === 2);
  });

  test("a profile, and a profile that was missing", async () => {
    const [user, absent] = [await newUser(), uid("user")];
    ok(await get(profilePath(user)));
    missing(await get(profilePath(absent)));
    await sql("UPDATE user_profiles SET first_name = 'Zoe' WHERE user_id = $1", [user]);
    await sql("INSERT INTO user_profiles (user_id, email) VALUES ($1, $2)", [absent, `${absent}@example.test`]);
    await becomesVisible(async () => ok(await get(profilePath(user))).first_name === "Zoe" && (await get(profilePath(absent))).status === 200);
  });

  test("orders", async () => {
    const user = await newUser();
    const { order_id } = await newOrder(user);
    assert.equal(ok(await get(ordersPath(user)))[0].status, "pending");
    await sql("UPDATE orders SET status = 'paid' WHERE order_id = $1", [order_id]);
    await becomesVisible(async () => ok(await get(ordersPath(user)))[0].status === "paid");
  });

  test("returns", async () => {
    const order = await newOrder(await newUser());
    assert.deepEqual(ok(await returns(`?userId=${order.user_id}`)), []);
    await sql("INSERT INTO returns (return_id, order_id, product_id, user_id) VALUES ($1, $2, 'p', $3)", [uid("return"), order.order_id, order.user_id]);
    await becomesVisible(async () => ok(await returns(`?userId=${order.user_id}`)).length === 1);
  });
});

describe("stats, health and SQL:", () => {
  test("stats: totalCount, idleCount, waitingCount are numbers, health is there", async () => {
    const stats = ok(await get(`${PG}/stats`));
    for (const name of ["totalCount", "idleCount", "waitingCount"]) assert.equal(typeof stats[name], "number", name);
    assert.ok("health" in stats);
  });

  test('health: {status:"healthy", latency:number} within 5 s and not cached', async () => {
    const started = Date.now();
    const res = await get(`${PG}/health`);
    assert.ok(Date.now() - started < 5_000);
    const health = ok(res);
    assert.equal(health.status, "healthy");
    assert.ok(typeof health.latency === "number" && health.latency >= 0);
    assert.ok(health.error === undefined || typeof health.error === "string");
    assert.doesNotMatch(res.text, /PostgreSQL \d|x86_64|compiled by/);
    assert.equal(res.headers.get("age"), null);
  });

  test("POST /postgres/batch is 403 and never executes anything", async () => {
    const user = uid("user");
    const query = `INSERT INTO user_profiles (user_id, email) VALUES ('${user}', '${user}@example.test')`;
    for (const body of [{ queries: [{ query, text: query, sql: query, params: [] }] }, { operations: [{ query }] }, { sql: query }, {}])
      refused(await post(`${PG}/batch`, body), 403);
    missing(await get(profilePath(user)));
    if (pool) assert.deepEqual(await sql("SELECT * FROM user_profiles WHERE user_id = $1", [user]), []);
  });
});
