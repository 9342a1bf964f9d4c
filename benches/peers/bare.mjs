// The ceiling: a Worker that does nothing but answer, with as many bytes of JSON as BODY_BYTES says.

let body;

export default {
  fetch(request, env) {
    body ??= JSON.stringify("x".repeat(env.BODY_BYTES - 2));
    return new Response(body, { headers: { "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store" } });
  },
};
