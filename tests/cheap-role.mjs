// A role of PostgreSQL whose log-in has the same bytes as any other's, but a single SCRAM
// iteration instead of 4096: for tests that log in thousands of times. Knows nothing of the edge.

import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";

/** What PostgreSQL keeps of a password (RFC 5803). */
function verifier(password) {
  const salt = randomBytes(16);
  const key = (name) => createHmac("sha256", pbkdf2Sync(password, salt, 1, 32, "sha256")).update(name).digest();
  const stored = createHash("sha256").update(key("Client Key")).digest("base64");
  return `SCRAM-SHA-256$1:${salt.toString("base64")}$${stored}:${key("Server Key").toString("base64")}`;
}

/** Makes the role, which may read and write all tables; the URL with which it logs in. */
export async function cheapRole(database, database_url, name) {
  const url = new URL(database_url);
  await database.query(`CREATE ROLE ${name} LOGIN PASSWORD '${verifier(url.password)}' IN ROLE pg_read_all_data, pg_write_all_data`);
  url.username = name;
  return url;
}
