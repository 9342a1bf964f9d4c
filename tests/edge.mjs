// Starts the edge for a test, in both of its hosts: the built Wasm in the real workerd, and
// the native build. Knows how to start and to end them; knows nothing of the API.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BUILD = `${ROOT}edge/build`;
export const SIM = `${ROOT}target/debug/sim`;

/**
 * BACKEND=gateway runs any test with a gateway between the edge and the stores. One, so that what a
 * test waits for (a breaker that is closed again) is so for all that it asks.
 */
const chosen = process.env.BACKEND ? { BACKEND: process.env.BACKEND, GATEWAY_SHARDS: process.env.GATEWAY_SHARDS ?? "1" } : {};

/**
 * The built Wasm in workerd itself, without wrangler's proxy before it. `settings` are its
 * variables by name; `roots` are certificates (PEM) that it trusts beside the usual ones;
 * `hyperdrive` is the URL of a PostgreSQL that the binding of that name leads to; `script` is
 * a Worker in one JavaScript file, with Node's modules, that takes the place of the edge, and
 * has a class `Gateway` where it `has_gateway`; `inspector` is a port for V8's inspector. With
 * `cron`, `trigger` does what a Cron Trigger does, and waits for the end of what it started.
 */
export async function workerd(settings = {}, { roots = [], hyperdrive, script, has_gateway = !script, inspector, cron } = {}) {
  const date = /^compatibility_date = "(.*)"$/m.exec(await readFile(`${ROOT}wrangler.toml`, "utf8"))[1];
  const directory = await mkdtemp(join(tmpdir(), "shepherd-edge-workerd-"));
  const bindings = Object.entries({ ...chosen, ...settings }).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`);
  const objects = has_gateway
    ? `durableObjectNamespaces = [(className = "Gateway", uniqueKey = "shepherd-edge-gateway", enableSql = true)],
       durableObjectStorage = (inMemory = void),`
    : "";
  if (objects) bindings.push(`(name = "GATEWAY", durableObjectNamespace = "Gateway")`);
  const services = [];
  if (hyperdrive) {
    const { protocol, host, pathname, username, password } = new URL(hyperdrive);
    services.push(`(name = "hyperdrive", external = (address = ${text(host)}, tcp = ())),`);
    bindings.push(`(name = "HYPERDRIVE", hyperdrive = (designator = "hyperdrive", scheme = ${text(protocol.slice(0, -1))},
      database = ${text(pathname.slice(1))}, user = ${text(username)}, password = ${text(password)}))`);
  }
  const modules = script
    ? [`(name = "index.js", esModule = embed ${text(script)})`]
    : [
        `(name = "index.js", esModule = embed ${text(`${BUILD}/index.js`)})`,
        `(name = "index_bg.wasm", wasm = embed ${text(`${BUILD}/index_bg.wasm`)})`,
      ];
  const sockets = [`(name = "http", address = "127.0.0.1:0", http = (), service = "edge")`];
  if (cron) {
    services.push(`(name = "cron", worker = (
      modules = [(name = "cron.js", esModule = ${text(CRON)})],
      compatibilityDate = ${text(date)},
      compatibilityFlags = ["service_binding_extra_handlers"],
      bindings = [(name = "EDGE", service = "edge")],
    )),`);
    sockets.push(`(name = "cron", address = "127.0.0.1:0", http = (), service = "cron")`);
  }
  await writeFile(join(directory, "config.capnp"), `
    using Workerd = import "/workerd/workerd.capnp";
    const config :Workerd.Config = (
      services = [
        (name = "edge", worker = (
          modules = [${modules.join(", ")}],
          compatibilityDate = ${text(date)},
          ${script ? 'compatibilityFlags = ["nodejs_compat"],' : ""}
          bindings = [${bindings.join(", ")}],
          ${objects}
        )),
        (name = "internet", network = (
          allow = ["public", "private"],
          tlsOptions = (trustBrowserCas = true, trustedCertificates = [${roots.map(text).join(", ")}]),
        )),
        ${services.join("")}
      ],
      sockets = [${sockets.join(", ")}],
    );`);
  // The control descriptor says which ports it got.
  const options = [];
  if (inspector) options.push(`--inspector-addr=127.0.0.1:${inspector}`);
  // For the one who calls a scheduled handler; not for the edge.
  if (cron) options.push("--experimental");
  const child = spawn("workerd", ["serve", "--import-path=/", "--control-fd=3", ...options, join(directory, "config.capnp")], {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const { lines, ended } = watch(child, "workerd", [child.stdout, child.stderr]);
  const control = createInterface({ input: child.stdio[3] });
  const ports = {};
  const listens = new Promise((resolve) => {
    control.on("line", (line) => {
      const { event, socket, port } = JSON.parse(line);
      if (event === "listen") ports[socket] = port;
      if (Object.keys(ports).length === sockets.length) resolve();
    });
  });
  await Promise.race([listens, ended]);
  const close = async () => {
    // What a Cron Trigger started goes on for its minute, and the process waits for it.
    await end(child, cron ? "SIGKILL" : "SIGTERM");
    await rm(directory, { recursive: true });
  };
  const trigger = async () => (await fetch(`http://127.0.0.1:${ports.cron}`)).text();
  return { name: "Wasm in workerd", url: `http://127.0.0.1:${ports.http}`, pid: child.pid, log: () => lines.join("\n"), close, trigger };
}

/** Calls the scheduled handler of another Worker, and says how that ended. */
const CRON = `export default {
  async fetch(request, { EDGE }) {
    const { outcome } = await EDGE.scheduled({ cron: "* * * * *" });
    return new Response(outcome);
  },
};`;

/** A string as Cap'n Proto writes one; its escapes are JSON's, but for those of UTF-16. */
const text = (string) => JSON.stringify(string).replace(/\\u[0-9a-f]{4}/gi, (escape) => {
  throw new Error(`cannot write ${escape} in a configuration`);
});

/** A Node.js program that says on its first line at which port it listens; it sees no variables but `settings`. */
export async function server(program, settings = {}) {
  const child = spawn("node", [program], { env: { PATH: process.env.PATH, NODE_ENV: "production", ...settings }, stdio: ["ignore", "pipe", "pipe"] });
  const { lines, ended } = watch(child, program, [child.stderr]);
  const [port] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended]);
  return { name: program, url: `http://127.0.0.1:${port}`, pid: child.pid, log: () => lines.join("\n"), close: () => end(child) };
}

/** The native build of the same code (`sim serve`); it sees no variables but `settings`. */
export async function native(settings = {}) {
  const child = spawn(SIM, ["serve", "--listen", "127.0.0.1:0"], {
    env: { PATH: process.env.PATH, ...chosen, ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { lines, ended } = watch(child, "sim serve", [child.stderr]);
  const [first] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended]);
  const url = first.replace("Serving on ", "");
  return { name: "native build", url, pid: child.pid, log: () => lines.join("\n"), close: () => end(child) };
}

/** A real PostgreSQL and a real Valkey of our own, with the tables and the sample shop unless `empty`. */
export async function stores({ empty = false } = {}) {
  const child = spawn(SIM, ["stores", ...(empty ? ["--empty"] : [])], { stdio: ["pipe", "pipe", "pipe"] });
  const { ended } = watch(child, "sim stores", [child.stderr]);
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended]);
  const { database_url: DATABASE_URL, valkey_url: VALKEY_URL, ...pids } = JSON.parse(line);
  const close = async () => {
    // It ends with its standard input, also when we are gone without a word.
    child.stdin.end();
    if (child.exitCode === null) await once(child, "exit");
  };
  return { settings: { DATABASE_URL, VALKEY_URL }, ...pids, close };
}

/** Settings with which no copy answers and no breaker opens: each request asks the stores. */
export const NOTHING_BETWEEN = {
  L1_MAX_AGE_MS: "0",
  COPY_MAX_AGE_MS: "0",
  BREAKER_FAILURES: "0",
  ...Object.fromEntries(
    ["SESSION", "CONVERSATION", "RECOMMENDATIONS", "PREFERENCES", "GENERIC", "PRODUCTS", "PROFILE", "ORDERS", "RETURNS"].map((kind) => [`POLICY_${kind}`, "stale-if-error=0"]),
  ),
};

/** A port that was free a moment ago, for programs that must be told one. */
export async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** What a child says, line by line, and a promise that fails when it ends. */
function watch(child, name, streams) {
  const lines = [];
  for (const input of streams) createInterface({ input }).on("line", (line) => lines.push(line));
  const ended = Promise.race([
    once(child, "exit").then(([code, signal]) => {
      throw new Error(`${name} ended (${signal ?? code}): ${lines.join("\n")}`);
    }),
    once(child, "error").then(([error]) => {
      throw error;
    }),
  ]);
  ended.catch(() => {}); // It ends at the end; only who still waits for it is told.
  return { lines, ended };
}

async function end(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, "exit");
}
