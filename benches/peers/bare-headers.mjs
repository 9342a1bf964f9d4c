// The ceiling of an answer that explains itself: bare.mjs, but it reads of a request what the edge
// reads, and answers with the headers that the edge answers with. Both are the platform's price.

let body;

export default {
  fetch(request, env) {
    body ??= JSON.stringify("x".repeat(env.BODY_BYTES - 2));
    const { headers } = request;
    const read = `${request.method} ${request.url} ${headers.get("If-None-Match")} ${headers.get("Origin")}`;
    return new Response(read ? body : null, {
      headers: {
        "Content-Type": "application/json; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cache-Status": "L1; hit; ttl=4",
        Age: "0",
        ETag: '"0123456789abcdef-258"',
        Vary: "Origin",
      },
    });
  },
};
