// What a workerd's V8 knows of itself, asked over its inspector (the Chrome DevTools Protocol).
// Knows nothing of what runs there.

import { once } from "node:events";

/** The isolate behind an inspector's port: `ask(method, params)`, `close()`. */
export async function inspect(port) {
  const [target] = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  await once(socket, "open");
  let last = 0;
  const waiting = new Map();
  socket.addEventListener("message", ({ data }) => {
    const { id, result, error } = JSON.parse(data);
    if (error) throw new Error(error.message);
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  const ask = (method, params) =>
    new Promise((resolve) => {
      waiting.set(++last, resolve);
      socket.send(JSON.stringify({ id: last, method, params }));
    });
  return { ask, close: () => socket.close() };
}
