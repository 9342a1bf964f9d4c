// A TCP proxy before a real store, for the faults that happen between the edge and a healthy
// server: it refuses, is silent, cuts after a byte, slows down, garbles or holds replies, and it
// counts what came: connections, words, bytes each way. What a store does that is really broken belongs to scripted.mjs.
//
// Knows no protocol but one thing of PostgreSQL's: a CancelRequest, which the edge sends whenever
// it likes, is passed on and never counted. Knows nothing of the edge.
//
// Why one of our own: toxiproxy, the maintained one, is a Go program with an HTTP interface that
// npm brings only a client of; it cuts after a number of bytes of one direction, but cannot hold
// a reply until something else has happened, nor count statements. With scripted.mjs a fault is
// a few lines.

import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { reset, scripted } from "./scripted.mjs";

export const NOISE = Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 7919 + (n >> 3)) & 0xff));
const CANCEL_REQUEST = Buffer.from([0, 0, 0, 16, 4, 210, 22, 46]);
/** Longer than any deadline of the edge. */
const SLOW_MS = 5_000;

/**
 * A script (see scripted.mjs) that passes on to a port of 127.0.0.1, with a fault:
 *
 * - `client_bytes`, `store_bytes`: so many of them are passed on, then the connection is cut by a
 *   "reset" or an "end". What the client had sent by then still reaches the store.
 * - `each_ms`, `piece_bytes`: a pause before each piece of a reply, and how large a piece is.
 * - `garbled_from`: from this byte on a reply is noise.
 *
 * A function of the first bytes may give these instead.
 *
 * `hold.now`, at any time: { word, reached, until }: from the moment a client says `word`, which
 * calls `reached`, replies to it wait for `until`.
 */
export const passing = (port, fault = {}, hold = {}) => (peer) => {
  const client = peer.socket;
  const real = net.connect({ port, host: "127.0.0.1", noDelay: true });
  let is_cut = false;
  let budgets;
  let queue = Promise.resolve();
  let waits = false;
  peer.replied_bytes = 0;

  const cut = () => {
    is_cut = true;
    real.end();
    if (budgets.cut === "end") client.end();
    else reset(client);
  };
  const reply = (bytes) => {
    if (is_cut || client.destroyed) return;
    const allowed = bytes.subarray(0, budgets.store_bytes);
    const good = allowed.subarray(0, budgets.garbled_from);
    budgets.store_bytes -= allowed.length;
    budgets.garbled_from -= good.length;
    peer.replied_bytes += allowed.length;
    if (allowed.length > 0) client.write(Buffer.concat([good, NOISE.subarray(0, allowed.length - good.length)]));
    if (budgets.store_bytes <= 0) cut();
  };

  const choose = (first) => {
    const chosen = isCancel(first) ? {} : typeof fault === "function" ? fault(first) : fault;
    budgets = { client_bytes: Infinity, store_bytes: Infinity, garbled_from: Infinity, piece_bytes: Infinity, cut: "reset", ...chosen };
    if (budgets.store_bytes <= 0) cut();
  };

  client.on("data", (bytes) => {
    if (is_cut) return;
    if (!budgets) choose(bytes);
    if (is_cut) return;
    real.write(bytes.subarray(0, budgets.client_bytes));
    budgets.client_bytes -= bytes.length;
    if (budgets.client_bytes <= 0) return cut();
    const held = hold.now;
    if (held && !waits && bytes.includes(held.word)) {
      waits = true;
      queue = queue.then(() => held.until).then(() => void (waits = false));
      held.reached();
    }
  });
  real.on("data", (bytes) => {
    // It may speak first, to say that it has no place for another client.
    if (!budgets) choose(Buffer.alloc(0));
    if (is_cut) return;
    if (!waits && !budgets.each_ms) return reply(bytes);
    const piece_bytes = Math.min(budgets.piece_bytes, bytes.length);
    for (let at = 0; at < bytes.length; at += piece_bytes) {
      const piece = bytes.subarray(at, at + piece_bytes);
      queue = queue.then(async () => {
        // A store that is slow for somebody who has left keeps no test from ending.
        if (budgets.each_ms && !client.destroyed) await pause(budgets.each_ms, undefined, { ref: false });
        reply(piece);
      });
    }
  });
  real.on("error", () => client.destroy());
  real.on("end", () => (queue = queue.then(() => is_cut || client.end())));
  client.on("end", () => real.end());
  client.on("close", () => is_cut || real.destroy());
};

const isCancel = (bytes) => bytes.length === 16 && bytes.subarray(0, 8).equals(CANCEL_REQUEST);

/** A proxy before the store at `target`, which passes everything on at first. */
export async function faultProxy(target) {
  const hold = {};
  const through = passing(target, {}, hold);
  const proxy = await scripted(through);
  proxy.target = target;
  /** The store is there again, for new connections: those that met the fault are reset. */
  proxy.heal = async () => {
    proxy.script = through;
    proxy.reset();
    await proxy.accept();
  };
  /** From now on connections meet this fault; those that are open are reset. */
  proxy.fail = (fault) => {
    proxy.script = typeof fault === "function" ? fault : passing(target, fault);
    proxy.reset();
  };
  /** How long the longest exchange since `forget` was, each way. */
  proxy.lengths = () => ({
    client_bytes: Math.max(...proxy.peers.map(({ received }) => received.length)),
    store_bytes: Math.max(...proxy.peers.map(({ replied_bytes }) => replied_bytes ?? 0)),
  });
  /** Connections since `forget`. */
  proxy.reached = () => proxy.peers.filter(({ received }) => !isCancel(received)).length;
  /** How often the clients have said a word since `forget`. */
  proxy.said = (word) => proxy.peers.reduce((sum, { received }) => sum + received.toString("latin1").split(word).length - 1, 0);
  /** Counting begins anew, with new connections: a gateway keeps those that it has. */
  proxy.forget = () => {
    proxy.reset();
    proxy.peers.splice(0);
  };
  /** Holds all replies from the moment a client says `word`: { reached, release }. */
  proxy.hold = (word) => {
    let let_go, came;
    const until = new Promise((resolve) => (let_go = resolve));
    const reached = new Promise((resolve) => (came = resolve));
    hold.now = { word, reached: came, until };
    const release = () => {
      hold.now = undefined;
      let_go();
    };
    return { reached, release };
  };
  return proxy;
}

/**
 * Ways in which a store is gone, by name. `MID_REPLY_BYTES` are fewer than any of its answers has:
 * every single byte is cuts.test.mjs' business.
 */
const MID_REPLY_BYTES = 40;
export const OUTAGES = {
  "refuses connections": (proxy) => proxy.refuse(),
  "is silent": (proxy) => proxy.fail(() => {}),
  "resets connections": (proxy) => proxy.fail((peer) => peer.reset()),
  "resets in the middle of a reply": (proxy) => proxy.fail({ store_bytes: MID_REPLY_BYTES }),
  "hangs up in the middle of a reply": (proxy) => proxy.fail({ store_bytes: MID_REPLY_BYTES, cut: "end" }),
  "is too slow": (proxy) => proxy.fail({ each_ms: SLOW_MS }),
  "dribbles": (proxy) => proxy.fail({ each_ms: 40, piece_bytes: 1 }),
  "answers with noise": (proxy) => proxy.fail(async (peer) => { await peer.some(); await peer.send(NOISE); }),
  "garbles the middle of a reply": (proxy) => proxy.fail({ garbled_from: MID_REPLY_BYTES }),
};
