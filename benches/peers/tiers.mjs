// What both peers do between HTTP and the stores: the usual cache-first reads, and writes. L1 is
// an LRU of the module, L2 Valkey, L3 PostgreSQL.
//
// Values are kept as the JSON text that will be sent, because to parse and write them again for
// each answer is what a peer of this size would lose most time with.
//
// Knows no HTTP and no connection: `stores` is { valkey(), query(statement, values), later(promise) },
// of one request in a Worker and of the process in Node.js. Knows none of what the edge does
// beyond the usual: no leases, no invalidation of other instances, no stale answers, no deadlines.

import { LRUCache } from "lru-cache";
import pg from "pg";

const L1_BYTES = 32 * 1024 * 1024;
const SESSION_TTL_S = 86_400;

// PostgreSQL's numeric as a number, and timestamps without zone as the UTC they are.
pg.types.setTypeParser(pg.types.builtins.NUMERIC, Number);
pg.types.setTypeParser(pg.types.builtins.TIMESTAMP, (text) => `${text.replace(" ", "T")}Z`);

const PRODUCTS = `SELECT id, name, description, price, category, brand, style, color, sizes, stock,
    image_url, rating, reviews_count, created_at, updated_at FROM catalog
  WHERE ($1::text IS NULL OR category = $1) AND ($2::text IS NULL OR brand = $2)
    AND ($3::numeric IS NULL OR price >= $3) AND ($4::numeric IS NULL OR price <= $4)
  ORDER BY rating DESC, reviews_count DESC, id COLLATE "C" LIMIT $5`;
const PROFILE = `SELECT user_id, email, first_name, last_name, preferences, body_measurements,
    created_at, updated_at FROM user_profiles WHERE user_id = $1`;

/** `settings` has L1_MAX_AGE_MS and COPY_MAX_AGE_MS, as the edge has; 0 switches a tier off. */
export function tiers(settings) {
  const copy_ms = Number(settings.COPY_MAX_AGE_MS ?? 30_000);
  const l1 = memory(Number(settings.L1_MAX_AGE_MS ?? 5_000));

  /** The text of a key of Valkey, which is the truth of it. */
  async function value(stores, key) {
    const kept = l1.get(key);
    if (kept !== undefined) return kept;
    const text = (await stores.valkey().get(key)) ?? undefined;
    if (text !== undefined) l1.set(key, text);
    return text;
  }

  async function keep(stores, key, text, ttl_s) {
    await (ttl_s ? stores.valkey().set(key, text, "EX", ttl_s) : stores.valkey().set(key, text));
    l1.set(key, text);
  }

  /** The text that `load` makes of rows, with copies in Valkey and L1. */
  async function copied(stores, key, load) {
    const kept = l1.get(key);
    if (kept !== undefined) return kept;
    let text = copy_ms > 0 ? ((await stores.valkey().get(key)) ?? undefined) : undefined;
    if (text === undefined) {
      text = await load();
      if (text !== undefined && copy_ms > 0) stores.later(stores.valkey().set(key, text, "PX", copy_ms));
    }
    if (text !== undefined) l1.set(key, text);
    return text;
  }

  return {
    session: (stores, id) => value(stores, `session:${id}`),
    keepSession: (stores, id, session) => keep(stores, `session:${id}`, JSON.stringify(session), session.ttl ?? SESSION_TTL_S),

    async cached(stores, key) {
      const text = await value(stores, key);
      return text === undefined ? undefined : `{"value":${text}}`;
    },
    keepCached: (stores, key, { value, ttl }) => keep(stores, key, JSON.stringify(value), ttl),

    /** All operations in one round trip. */
    async batch(stores, operations) {
      const pipeline = stores.valkey().pipeline();
      for (const { type, key, value, ttl } of operations) {
        if (type === "get") pipeline.get(key);
        else if (type === "delete") pipeline.del(key);
        else if (ttl) pipeline.set(key, JSON.stringify(value), "EX", ttl);
        else pipeline.set(key, JSON.stringify(value));
      }
      const replies = await pipeline.exec();
      const results = operations.map(({ type, key }, at) => {
        const [error, reply] = replies[at];
        const named = JSON.stringify(key);
        if (error) return `{"success":false,"key":${named},"error":"it failed"}`;
        if (type === "get") return `{"success":true,"key":${named},"value":${reply ?? "null"}}`;
        l1.delete(key);
        return `{"success":true,"key":${named}}`;
      });
      return `{"results":[${results.join()}]}`;
    },

    products: (stores, { category, brand, minPrice, maxPrice, limit = "1000" }) => {
      const values = [category || null, brand || null, minPrice || null, maxPrice || null, limit];
      return copied(stores, `copy:products:${JSON.stringify(values)}`, async () => JSON.stringify(await stores.query(PRODUCTS, values)));
    },
    profile: (stores, user) =>
      copied(stores, `copy:profile:${user}`, async () => {
        const [row] = await stores.query(PROFILE, [user]);
        return row && JSON.stringify(row);
      }),
  };
}

/** `ttlResolution` is 0 because the timer behind it would belong to one request of a Worker, and end with it. */
const memory = (age_ms) =>
  age_ms > 0
    ? new LRUCache({ maxSize: L1_BYTES, sizeCalculation: (text) => text.length + 1, ttl: age_ms, ttlResolution: 0 })
    : { get: () => undefined, set: () => {}, delete: () => {} };
