// A minimal Valkey client (RESP2 over TCP or TLS), for tests that look at or change
// the store behind the edge. It knows nothing of the edge's keys or encodings.

import net from "node:net";
import tls from "node:tls";

const CRLF = Buffer.from("\r\n");

/** Opens a connection to `valkey://[user]:[password]@host:port/[db]` (or redis://, valkeys://, rediss://). */
export async function connectValkey(address) {
  const url = new URL(address);
  const secure = /^(valkeys|rediss):$/.test(url.protocol);
  const target = { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 6379) };
  const socket = secure ? tls.connect({ ...target, rejectUnauthorized: false }) : net.connect(target);
  await new Promise((resolve, reject) => socket.once(secure ? "secureConnect" : "connect", resolve).once("error", reject));

  const waiting = []; // one { resolve, reject } per command sent, in order
  let unread = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    unread = Buffer.concat([unread, bytes]);
    for (let reply; waiting.length > 0 && (reply = parseReply(unread, 0)) !== undefined;) {
      unread = unread.subarray(reply.end);
      const { resolve, reject } = waiting.shift();
      if (reply.value instanceof Error) reject(reply.value);
      else resolve(reply.value);
    }
  });
  const fail = (error) => waiting.splice(0).forEach(({ reject }) => reject(error ?? new Error("Valkey closed the connection")));
  socket.on("error", fail).on("close", () => fail());

  /** Sends one command; strings and buffers are sent as they are. Text replies come back as strings. */
  const send = (...words) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      const parts = [Buffer.from(`*${words.length}\r\n`)];
      for (const word of words) {
        const bytes = Buffer.isBuffer(word) ? word : Buffer.from(String(word));
        parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, CRLF);
      }
      socket.write(Buffer.concat(parts));
    });

  const [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  if (password) await (user ? send("AUTH", user, password) : send("AUTH", password));
  if (url.pathname.length > 1) await send("SELECT", url.pathname.slice(1));

  /** All keys that match a glob pattern. */
  const scan = async (pattern) => {
    const found = new Set();
    for (let cursor = "0"; ;) {
      const [next, keys] = await send("SCAN", cursor, "MATCH", pattern, "COUNT", 1000);
      keys.forEach((key) => found.add(key));
      if ((cursor = next) === "0") return [...found];
    }
  };
  return { send, scan, close: () => socket.destroy() };
}

/** The reply that starts at `at`, or undefined while bytes are missing. */
function parseReply(bytes, at) {
  const eol = bytes.indexOf(CRLF, at);
  if (eol < 0) return undefined;
  const [kind, line] = [String.fromCharCode(bytes[at]), bytes.toString("utf8", at + 1, eol)];
  let end = eol + 2;
  if (kind === "+") return { value: line, end };
  if (kind === "-") return { value: new Error(`Valkey: ${line}`), end };
  if (kind === ":") return { value: Number(line), end };
  const length = Number(line);
  if (length < 0) return { value: null, end };
  if (kind === "$") {
    if (bytes.length < end + length + 2) return undefined;
    return { value: bytes.toString("utf8", end, end + length), end: end + length + 2 };
  }
  if (kind !== "*") throw new Error(`unexpected Valkey reply ${kind}`);
  const value = [];
  for (let i = 0; i < length; i++) {
    const item = parseReply(bytes, end);
    if (item === undefined) return undefined;
    value.push(item.value);
    end = item.end;
  }
  return { value, end };
}
