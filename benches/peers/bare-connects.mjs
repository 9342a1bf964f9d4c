// The ceiling of an answer that needs a connection of its own: a Worker that opens one to Valkey,
// sends a PING, waits for the first bytes, and answers with as many bytes of JSON as BODY_BYTES says.

import { connect } from "cloudflare:sockets";

const PING = new TextEncoder().encode("*1\r\n$4\r\nPING\r\n");
let body;

export default {
  async fetch(request, env) {
    body ??= JSON.stringify("x".repeat(env.BODY_BYTES - 2));
    const { hostname, port } = new URL(env.VALKEY_URL);
    const socket = connect({ hostname, port: Number(port) });
    await socket.writable.getWriter().write(PING);
    await socket.readable.getReader().read();
    socket.close();
    return new Response(body, { headers: { "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store" } });
  },
};
