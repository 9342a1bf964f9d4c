// The Wasm as it is sent: that an older engine than workerd's takes it, and how large it is.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { ROOT } from "../edge.mjs";

/** What a place far from everywhere fetches before its first answer. */
const GZIP_BYTES_MAX = 350 * 1024;

const wasm = await readFile(`${ROOT}edge/build/index_bg.wasm`);

test("it needs no feature that Node.js does not have", () => assert.ok(new WebAssembly.Module(wasm)));

test("it is small", (context) => {
  const { length } = gzipSync(wasm, { level: 9 });
  context.diagnostic(`${wasm.length} bytes, ${length} with gzip`);
  assert.ok(length <= GZIP_BYTES_MAX, `${length} bytes with gzip`);
});
