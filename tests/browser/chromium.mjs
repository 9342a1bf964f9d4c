// A real Chromium without a window, with fonts of its own, so that a page looks the same on every
// machine. CHROMIUM names another one, for instance where there is no binary for the processor.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { chromium } from "playwright-core";
import { ROOT } from "../edge.mjs";

const PACKED = join(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")), "../../bin");
const { version } = JSON.parse(readFileSync(join(PACKED, "../package.json"), "utf8"));

/** Why there is no browser here; false where there is one. */
export const missing = !process.env.CHROMIUM && (process.platform !== "linux" || process.arch !== "x64") && "there is no packed Chromium for this machine: name one in CHROMIUM";

/** Once; its libraries and fonts come along, because a machine without a desktop has none. */
async function unpacked() {
  const place = `${ROOT}target/chromium-${version}`;
  if (existsSync(place)) return place;
  await mkdir(`${ROOT}target`, { recursive: true });
  // Beside its place until it is whole.
  const work = await mkdtemp(`${place}-`);
  const inflate = (name) => brotliDecompressSync(readFileSync(join(PACKED, name)));
  await writeFile(`${work}/chromium`, inflate("chromium.br"));
  await chmod(`${work}/chromium`, 0o755);
  for (const name of ["al2023.tar.br", "fonts.tar.br"]) execFileSync("tar", ["-x", "--no-same-owner", "-C", work], { input: inflate(name) });
  await writeFile(`${work}/fonts.conf`, `<fontconfig><dir>${place}/fonts</dir><cachedir>${place}/font-cache</cachedir></fontconfig>`);
  // Another run may have been faster.
  await rename(work, place).catch(() => rm(work, { recursive: true }));
  return place;
}

/** A playwright browser; the caller closes it. */
export async function browser() {
  if (process.env.CHROMIUM) return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const place = await unpacked();
  return chromium.launch({
    executablePath: `${place}/chromium`,
    // The sandbox needs rights that root in a container lacks; only our own files are opened.
    args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
    env: { ...process.env, LD_LIBRARY_PATH: `${place}/lib`, FONTCONFIG_FILE: `${place}/fonts.conf` },
  });
}
