// A store at a distance: a TCP proxy that keeps every byte for half a round trip, each way, and
// counts connections and round trips, which are the same on every machine.
//
// Knows no protocol: a round trip is a question that was answered, in however many pieces, and the
// opening of a connection is one too. TLS, which a store at a real distance would add, is not here.

import { once } from "node:events";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** Before the store at `url`: { url, counts, close }. */
export async function delayed(url, round_trip_ms) {
  const counts = { connections: 0, round_trips: 0 };
  const sockets = new Set();
  const { hostname, port } = new URL(url);
  const proxy = net.createServer({ noDelay: true }, (client) => {
    const store = net.connect({ host: hostname, port: Number(port), noDelay: true });
    // The kernel has accepted at once. Over a distance the client would still wait for that.
    const to_store = line(round_trip_ms / 2, performance.now() + round_trip_ms);
    const to_client = line(round_trip_ms / 2);
    counts.connections++;
    counts.round_trips++;
    let asks = false;
    client.on("data", (bytes) => {
      asks = true;
      to_store(() => store.write(bytes));
    });
    store.on("data", (bytes) => {
      if (asks) counts.round_trips++;
      asks = false;
      to_client(() => client.write(bytes));
    });
    client.on("end", () => to_store(() => store.end()));
    store.on("end", () => to_client(() => client.end()));
    for (const [socket, other] of [[client, store], [store, client]]) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const here = new URL(url);
  here.port = proxy.address().port;
  const close = () => {
    sockets.forEach((socket) => socket.destroy());
    proxy.close();
  };
  return { url: here.href, counts, close };
}

/** Does what it is given, in that order, each `delay_ms` after it came or after the line was open. */
function line(delay_ms, open_at_ms = 0) {
  let last = Promise.resolve();
  return (work) => {
    const due_ms = Math.max(performance.now(), open_at_ms) + delay_ms;
    last = last.then(async () => {
      const left_ms = due_ms - performance.now();
      // A timer counts whole milliseconds from the one that has begun: rounded up, it is right
      // in the middle; cut off, it would be most of one too short, each time.
      if (left_ms > 0) await pause(Math.ceil(left_ms));
      work();
    });
  };
}
