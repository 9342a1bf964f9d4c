// The ceiling of an answer through a gateway: a Worker that hands a request to a Durable Object,
// which answers with as many bytes of JSON as BODY_BYTES says.

import { DurableObject } from "cloudflare:workers";

let body;

export class Gateway extends DurableObject {
  async fetch(request) {
    await request.arrayBuffer();
    body ??= JSON.stringify("x".repeat(this.env.BODY_BYTES - 2));
    return new Response(body, { headers: { "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store" } });
  }
}

export default {
  fetch(request, { GATEWAY }) {
    return GATEWAY.get(GATEWAY.idFromName("bare")).fetch(request);
  },
};
