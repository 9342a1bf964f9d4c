// Log-ins to a real PostgreSQL with SCRAM, from both hosts: passwords that are not ASCII, which
// the platform normalizes, and one that is changed while an isolate remembers keys.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { NOTHING_BETWEEN, native, stores, workerd } from "../edge.mjs";
import { ask, unavailable } from "../observe.mjs";

const WITHIN_MS = 10_000;
const ROWS = "/api/vultr/postgres/products?limit=2";

describe("the password of PostgreSQL", () => {
  let real, database;
  before(async () => {
    real = await stores();
    database = new pg.Client({ connectionString: real.settings.DATABASE_URL });
    await database.connect();
    await database.query("CREATE ROLE guest LOGIN IN ROLE pg_read_all_data");
  });
  after(async () => {
    await database?.end();
    await real?.close();
  });

  const keep = (password) => database.query(`ALTER ROLE guest PASSWORD '${password}'`);

  async function withEdge(start, password, work) {
    const url = new URL(real.settings.DATABASE_URL);
    url.username = "guest";
    url.password = password;
    const edge = await start({ ...real.settings, DATABASE_URL: url.href, ...NOTHING_BETWEEN });
    try {
      await work({ get: () => ask(edge, ROWS, { within_ms: WITHIN_MS }), edge });
    } finally {
      await edge.close();
    }
  }

  for (const [host, start] of [["Wasm in workerd", workerd], ["native build", native]]) {
    describe(host, () => {
      for (const [what, kept, given] of [
        ["composed, and given as it is", "zürich", "zürich"],
        ["composed, and given decomposed", "zürich", "zu\u0308rich"],
        ["with a ligature and a wide space", "\uFB01sh\u3000bowl", "fish bowl"],
        ["that SASLprep refuses, taken as it is", "zu\u0308rich\u{1F600}", "zu\u0308rich\u{1F600}"],
      ]) {
        test(what, async () => {
          await keep(kept);
          await withEdge(start, given, async ({ get, edge }) => {
            for (let n = 0; n < 3; n++) assert.equal((await get()).status, 200, edge.log());
          });
        });
      }

      test("changed and changed back: refused meanwhile", async () => {
        await keep("wool");
        await withEdge(start, "wool", async ({ get, edge }) => {
          for (const [password, isRight] of [["wool", true], ["silk", false], ["wool", true]]) {
            await keep(password);
            for (let n = 0; n < 2; n++) {
              const answer = await get();
              if (isRight) assert.equal(answer.status, 200, edge.log());
              else unavailable(answer, { status: 503, secrets: ["wool", "silk", "guest"] });
            }
          }
          assert.match(edge.log(), /28P01 password authentication failed/);
        });
      });
    });
  }
});
