// Servers that do what a test tells them, in place of Valkey or PostgreSQL: a listener whose
// script is exchanged while its client runs, and the messages of both protocols as bytes.
// Knows nothing of the edge, and deliberately believes its client: a request is taken apart
// only as far as a script has to know that it is there.

import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** The client is gone: how most scripts end. */
export class Gone extends Error {}

/**
 * A listener on 127.0.0.1. Each connection runs `server.script(peer)` as it is at that moment.
 * `failures` are errors of the scripts themselves. After `refuse()` connections are refused, and
 * after `accept()` they are taken again, at the same port.
 */
export async function scripted(script) {
  const open = new Set();
  const server = { script, peers: [], failures: [] };
  const listener = net.createServer({ noDelay: true }, (socket) => {
    const peer = new Peer(socket);
    server.peers.push(peer);
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    Promise.resolve(server.script(peer)).catch((error) => {
      socket.destroy();
      if (!(error instanceof Gone)) server.failures.push(error);
    });
  });
  server.accept = async () => {
    if (listener.listening) return;
    listener.listen(server.port ?? 0, "127.0.0.1");
    await once(listener, "listening");
    server.port = listener.address().port;
  };
  server.refuse = async () => {
    if (!listener.listening) return;
    server.reset();
    listener.close();
    await once(listener, "close");
  };
  /** Resets every connection that is open. */
  server.reset = () => open.forEach(reset);
  await server.accept();
  /** Waits until the clients have closed every connection; whether they did. */
  server.idle = async (within_ms = 3_000) => {
    const closed = (socket) => new Promise((resolve) => (socket.closed ? resolve() : socket.once("close", resolve)));
    const late = pause(within_ms, false, { ref: false });
    return Promise.race([Promise.all([...open].map(closed)).then(() => true), late]);
  };
  server.close = () => {
    open.forEach((socket) => socket.destroy());
    listener.close();
  };
  return server;
}

/** Ends a connection with a reset. Node.js never closes one that it resets while it is being shut down. */
export const reset = (socket) => (socket.writableEnded ? socket.destroy() : socket.resetAndDestroy());

/** One connection, from the server's side. */
export class Peer {
  /** All that the client sent. */
  received = Buffer.alloc(0);
  /** How much of it the script has taken. */
  #taken = 0;
  /** How many more bytes may be sent before the connection is closed. */
  budget = Infinity;

  constructor(socket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      // The end of what is large is not needed by any script.
      if (this.received.length < 1 << 20) this.received = Buffer.concat([this.received, bytes]);
    });
  }

  async #more() {
    if (this.socket.destroyed || this.socket.readableEnded) throw new Gone();
    const left = new AbortController();
    const wait = (event) => once(this.socket, event, { signal: left.signal }).catch(() => {});
    await Promise.race([wait("data"), wait("end"), wait("close")]);
    left.abort();
  }

  /** The next `count` bytes. */
  async take(count) {
    while (this.received.length < this.#taken + count) await this.#more();
    return this.received.subarray(this.#taken, (this.#taken += count));
  }

  /** Whatever has come, at least one byte. */
  async some() {
    await this.take(1);
    const bytes = this.received.subarray(this.#taken - 1);
    this.#taken = this.received.length;
    return bytes;
  }

  /** Sends; waits while the client does not read. */
  async send(...parts) {
    const bytes = Buffer.concat(parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(part, "latin1"))));
    if (this.socket.destroyed) throw new Gone();
    const allowed = bytes.subarray(0, Math.min(bytes.length, this.budget));
    this.budget -= allowed.length;
    if (!this.socket.write(allowed)) {
      const left = new AbortController();
      const wait = (event) => once(this.socket, event, { signal: left.signal }).catch(() => {});
      await Promise.race([wait("drain"), wait("close")]);
      left.abort();
      if (this.socket.destroyed) throw new Gone();
    }
    if (this.budget <= 0) {
      this.cut();
      throw new Gone();
    }
  }

  /** How the connection ends when the budget is used up. */
  cut() {
    this.socket.end();
  }

  async endlessly(...parts) {
    const bytes = Buffer.concat(parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(part, "latin1"))));
    const many = Buffer.concat(Array(Math.max(1, Math.ceil(65_536 / bytes.length))).fill(bytes));
    for (;;) await this.send(many);
  }

  /** One byte at a time. */
  async dribble(bytes, each_ms) {
    for (const byte of Buffer.from(bytes, "latin1")) {
      await this.send(Buffer.from([byte]));
      await pause(each_ms);
    }
  }

  close() {
    this.socket.end();
  }

  reset() {
    reset(this.socket);
  }
}

/** A script that passes everything on to a real server. */
export const passOn = (port) => (peer) => {
  const real = net.connect(port, "127.0.0.1");
  real.on("error", () => peer.socket.destroy()).on("close", () => peer.socket.destroy());
  peer.socket.on("close", () => real.destroy());
  peer.socket.pipe(real).pipe(peer.socket);
};

// ---------------------------------------------------------------- Valkey (RESP)

/** An answer to HELLO 3. */
export const HELLO = "%1\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n";
export const bulk = (text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;

// ---------------------------------------------------------------- PostgreSQL, protocol 3.0

const int16 = (number) => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(number);
  return bytes;
};
export const int32 = (number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number >>> 0);
  return bytes;
};
const text = (string) => (Buffer.isBuffer(string) ? string : Buffer.from(string, "latin1"));
const zero = Buffer.from([0]);

/** A message; `length` may lie. */
export function message(tag, body = "", length = text(body).length + 4) {
  return Buffer.concat([text(tag), int32(length), text(body)]);
}

/** A RowDescription of text columns `[name, type OID]`. */
export function rowDescription(columns, count = columns.length) {
  const fields = columns.map(([name, oid]) => Buffer.concat([text(name), zero, int32(0), int16(0), int32(oid), int16(0xffff), int32(0xffffffff), int16(0)]));
  return message("T", Buffer.concat([int16(count), ...fields]));
}

/** A DataRow; null is NULL. */
export function dataRow(fields, count = fields.length) {
  const parts = fields.map((field) => (field === null ? int32(0xffffffff) : Buffer.concat([int32(text(field).length), text(field)])));
  return message("D", Buffer.concat([int16(count), ...parts]));
}

export const errorResponse = (fields) => message("E", Buffer.concat([...Object.entries(fields).map(([type, value]) => Buffer.concat([text(type), text(value), zero])), zero]));
export const notice = (words) => message("N", `SNOTICE\0C00000\0M${words}\0\0`);
export const parameter = (name, value) => message("S", `${name}\0${value}\0`);

export const OID = { bool: 16, int4: 23, text: 25, varchar: 1043, numeric: 1700, jsonb: 3802 };
export const LET_IN = message("R", int32(0));
export const KEY = message("K", Buffer.concat([int32(4711), int32(0x5ec2e7)]));
export const READY = message("Z", "I");
export const PARSED = message("1");
export const BOUND = message("2");
export const SELECTED = message("C", "SELECT 1\0");

/** The StartupMessage, which has no tag. */
export async function startup(peer) {
  const length = (await peer.take(4)).readUInt32BE();
  return peer.take(length - 4);
}

/** A tagged message of the client. */
export async function request(peer) {
  const head = await peer.take(5);
  return { tag: String.fromCharCode(head[0]), body: await peer.take(head.readUInt32BE(1) - 4) };
}

/** Waits until a whole statement has come: its Sync. */
export async function statement(peer) {
  while ((await request(peer)).tag !== "S");
}

/** Lets the client in without a password, up to the point where the server answers statements. */
export async function letIn(peer) {
  await startup(peer);
  await peer.send(LET_IN, parameter("server_version", "18.0"), KEY, READY);
  await statement(peer);
}

const hmac = (key, data) => createHmac("sha256", key).update(data).digest();

/**
 * SCRAM-SHA-256 (RFC 5802, 7677), from the StartupMessage to just before AuthenticationOk. The
 * client's proof is not checked. `first` and `final` may change what the server says.
 */
export async function scram(peer, { password = "", iterations = 4096, first = (text) => text, final = (text) => text } = {}) {
  await startup(peer);
  await peer.send(message("R", Buffer.concat([int32(10), text("SCRAM-SHA-256\0\0")])));
  const { body } = await request(peer);
  const clientFirst = body.subarray(body.indexOf(0) + 5).toString().slice("n,,".length);
  const salt = createHash("sha256").update("salt").digest().subarray(0, 16);
  const serverFirst = first(`${/r=[^,]*/.exec(clientFirst)[0]}servernonce,s=${salt.toString("base64")},i=${iterations}`);
  await peer.send(message("R", Buffer.concat([int32(11), text(serverFirst)])));
  const clientFinal = (await request(peer)).body.toString();
  const said = `${clientFirst},${serverFirst},${clientFinal.slice(0, clientFinal.lastIndexOf(",p="))}`;
  const serverKey = hmac(pbkdf2Sync(password, salt, Math.min(iterations, 1 << 20) || 1, 32, "sha256"), "Server Key");
  await peer.send(message("R", Buffer.concat([int32(12), text(final(`v=${hmac(serverKey, said).toString("base64")}`))])));
}
