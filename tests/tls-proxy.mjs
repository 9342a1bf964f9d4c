// TLS in front of a real store that has none: with the first byte as Valkey does it, or after
// PostgreSQL's SSLRequest. It keeps what each client said, so that a test can see what left
// and under which protection; and it makes certificates. Knows nothing of the edge, and of the
// protocols only how TLS begins.

import { execFile } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { promisify } from "node:util";
import { ROOT } from "./edge.mjs";

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** A certificate for these hosts, of an authority of its own: { ca, cert, key } as PEM. */
export async function certificate(hosts, { expired = false } = {}) {
  const words = ["certificate", ...hosts.flatMap((host) => ["--host", host]), ...(expired ? ["--expired"] : [])];
  return JSON.parse((await promisify(execFile)(`${ROOT}target/debug/sim`, words)).stdout);
}

/**
 * Listens on 127.0.0.1 and passes on to `target` (a port there).
 *
 * Of each connection `connections` has { raw, secure, said }: the bytes as they came before TLS,
 * whether TLS was on, and what the client said (under TLS, if that is on).
 * `answer` is what an SSLRequest is answered with; only after exactly "S" TLS begins.
 */
export async function tlsProxy(protocol, target, { cert, key }, { answer = "S" } = {}) {
  const proxy = { connections: [] };
  const context = tls.createSecureContext({ cert, key });
  const open = new Set();

  const passOn = (client, connection) => {
    const real = net.connect(target, "127.0.0.1");
    open.add(real);
    client.on("data", (bytes) => (connection.said = Buffer.concat([connection.said, bytes])));
    client.on("close", () => real.destroy());
    real.on("error", () => client.destroy()).on("close", () => client.destroy());
    client.pipe(real).pipe(client);
  };
  const secured = (socket, connection) => {
    const wrapped = new tls.TLSSocket(socket, { isServer: true, secureContext: context });
    wrapped.on("error", () => socket.destroy());
    wrapped.once("secure", () => {
      connection.secure = true;
      passOn(wrapped, connection);
    });
  };

  const listener = net.createServer({ noDelay: true }, (socket) => {
    const connection = { raw: Buffer.alloc(0), secure: false, said: Buffer.alloc(0), socket };
    proxy.connections.push(connection);
    open.add(socket);
    socket.on("error", () => {});
    if (protocol === "valkey") return secured(socket, connection);
    socket.once("data", (first) => {
      connection.raw = first;
      if (!first.equals(SSL_REQUEST)) {
        socket.pause();
        socket.unshift(first);
        return passOn(socket, connection);
      }
      socket.write(answer);
      if (answer === "S") return secured(socket, connection);
      socket.on("data", (bytes) => (connection.raw = Buffer.concat([connection.raw, bytes])));
    });
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  proxy.port = listener.address().port;
  proxy.answer = (words) => (answer = words);
  /** The connections since the last call. */
  proxy.taken = () => proxy.connections.splice(0);
  proxy.close = () => {
    open.forEach((socket) => socket.destroy());
    listener.close();
  };
  return proxy;
}
