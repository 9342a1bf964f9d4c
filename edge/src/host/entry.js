// What the platform calls, and the shortest way through: what the last answer to the same
// request was made of is still here, and the Wasm is only asked whether it holds.
//
// worker-build's own entry is a class behind proxies, which alone cost as much as an answer
// from L1. It is still what answers after the Wasm has trapped, because it makes a new
// instance, which knows no number of the one before.

import { DurableObject } from "cloudflare:workers";
import Recovering, { Gateway as RecoveringGateway } from "./worker.js";

// The futures of Rust are woken by microtasks. The platform's own function makes an object of
// its own for each, and was a tenth of what an answer from a store cost; V8's promises do not.
globalThis.queueMicrotask = (task) => void Promise.resolve().then(task);

const NONE = 0xffffffff;
const { answer, holds, sending } = Recovering.prototype;
const { opening, sent, again } = sending();
const state = globalThis.__worker_init_state;
let instance = state.instanceId;

// The methods of a class that extends the platform's are called over RPC, where a string
// goes there and comes back for less than a request and a response do.
const InWasm = RecoveringGateway.prototype.constructor;

export class Gateway extends DurableObject {
  #gateway;
  #instance;

  ask(message) {
    if (state.criticalError) new RecoveringGateway(this.ctx, this.env).free();
    if (this.#instance !== state.instanceId) {
      this.#gateway = new InWasm(this.ctx, this.env);
      this.#instance = state.instanceId;
    }
    try {
      return this.#gateway.ask(message);
    } catch (error) {
      remember(error);
      throw error;
    }
  }
}

function remember(error) {
  if (!(error instanceof WebAssembly.RuntimeError)) return;
  console.error("Critical", error);
  state.criticalError = true;
}

export default {
  fetch(request, env, context) {
    if (state.criticalError) return new Recovering(context, env).fetch(request);
    if (instance !== state.instanceId) {
      sent.clear();
      instance = state.instanceId;
    }
    try {
      const read = opening(request, false);
      const kept = sent.get(read);
      if (kept !== undefined && holds(kept.number, Date.now())) return again(kept);
      return answer(read, kept === undefined ? NONE : kept.number, request, env, context);
    } catch (error) {
      remember(error);
      throw error;
    }
  },

  scheduled(controller, env, context) {
    return new Recovering(context, env).scheduled(controller);
  },
};
