// The report as a page, in a real browser: it says what its JSON says, to everyone, in light and
// dark, on a desk, on a phone and on paper. Screenshots of it are left in target/screenshots.
//
// Needs target/debug/sim and target/debug/examples/report.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import axe from "axe-core";
import { ROOT } from "../edge.mjs";
import { browser, missing } from "./chromium.mjs";

const SIM = `${ROOT}target/debug/sim`;
const SCREENSHOTS = `${ROOT}target/screenshots`;
const SECTIONS = ["targets", "places", "latency", "tiers", "load", "staleness", "bounds", "limits", "what-if", "conditions", "notes"];
const CONTRAST_LEAST = 4.5;

const json = execFileSync(`${ROOT}target/debug/examples/report`, { encoding: "utf8" });
const report = JSON.parse(json);

/** Nothing of this has a place where it fits. */
const extreme = structuredClone(report);
for (const row of extreme.rows) {
  row.operation = `${row.operation} ${"of_a_name_without_end".repeat(4)} <script>`;
  row.requests = 9_007_199_254_740_991;
  row.latency.max_us = 9_007_199_254_740_991;
  row.target_ms = 4_294_967_295;
}
for (const load of extreme.stores) {
  load.peak_per_s = 9_007_199_254_740_991;
  load.peak_at_ms = 9_007_199_254_740_991;
}
extreme.conditions.push(["name".repeat(40), "value".repeat(80)]);
extreme.what_if.push({ ...extreme.what_if[0], settings: [["N".repeat(90), "1".repeat(90)]] });
extreme.notes.push("note".repeat(90));

let directory, chromium;

function written(name, content) {
  const file = join(directory, `${name}.html`);
  execFileSync(SIM, ["report", "-", "--html", file], { input: content });
  return pathToFileURL(file).href;
}

/** The page, and what it did beyond showing itself. */
async function opened(url, { scheme = "light", width = 1280 } = {}) {
  const context = await chromium.newContext({ colorScheme: scheme, viewport: { width, height: 900 } });
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => request.url() !== url && said.push(`asked for ${request.url()}`));
  await page.goto(url);
  return { page, said };
}

/** The texts of a table: the header's, then each row's. */
const table = (page, section) => page.$$eval(`#${section} tr`, (rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim())));

const number = (text) => Number(text.replace(/,/g, "").replace(/\D+$/, ""));
const milliseconds = (us) => Math.ceil(us / 100) / 10;
const isShare = (text, part, whole) => whole === 0 ? text === "–" : Math.abs(number(text) - (100 * part) / whole) <= 0.0501;

/** Texts whose colour is too near to that of what they stand on. */
const faintTexts = (page, least) => page.evaluate((least) => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (channels(backgroundColor)[3] !== 0) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    if (["title", "desc"].includes(element.tagName) || ![...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    seen += 1;
    const { color, fill } = getComputedStyle(element);
    const [low, high] = [luminance(element.tagName === "text" ? fill : color), luminance(behind(element))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < least) faint.push(`${element.textContent}: ${contrast.toFixed(2)}`);
  }
  return { seen, faint };
}, least);

/** Words in charts that leave the screen, or lie on each other. */
const misplacedWords = (page) => page.evaluate(() => {
  const misplaced = [];
  for (const chart of document.querySelectorAll("svg.plot")) {
    const words = [...chart.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    for (const [index, [text, box]] of words.entries()) {
      if (box.left < 0 || box.right > innerWidth) misplaced.push(`${text} is off the screen`);
      for (const [other, its] of words.slice(index + 1)) {
        if (box.left < its.right && its.left < box.right && box.top + 2 < its.bottom && its.top + 2 < box.bottom) misplaced.push(`${text} lies on ${other}`);
      }
    }
  }
  return misplaced;
});

const overflow_px = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

async function violations(page) {
  // Not as a script of the page, which its policy forbids.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => axe.run());
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`);
}

describe("the page of a report", { skip: missing }, () => {
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "shepherd-edge-page-"));
    await mkdir(SCREENSHOTS, { recursive: true });
    chromium = await browser();
  });
  after(async () => {
    await chromium?.close();
    await rm(directory, { recursive: true });
  });

  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      test(`is whole, legible and accessible in ${scheme}, ${width} px wide`, async () => {
        const { page, said } = await opened(written("evening", json), { scheme, width });
        assert.deepEqual(await page.$$eval("section", (sections) => sections.map(({ id }) => id)), SECTIONS);
        assert.equal(await overflow_px(page), 0);
        assert.deepEqual(await misplacedWords(page), []);
        const { seen, faint } = await faintTexts(page, CONTRAST_LEAST);
        assert.ok(seen > 200, `only ${seen} texts`);
        assert.deepEqual(faint, []);
        assert.deepEqual(await violations(page), []);
        assert.deepEqual(said, []);
        const isDark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor !== "rgb(255, 255, 255)");
        assert.equal(isDark, scheme === "dark");
        await page.screenshot({ path: `${SCREENSHOTS}/report-${scheme}-${width}.png`, fullPage: true });
        await page.context().close();
      });
    }
  }

  const TRACE = `${ROOT}tests/data/weblog-424-norobots-evening.slt.gz`;
  for (const [name, sections, ...words] of [
    ["replay", ["targets", "places", "latency", "tiers", "load"], "--fault", "valkey@10m+60s"],
    ["sweep", ["targets", "what-if"], "--set", "L1_MAX_AGE_MS=1000,5000", "--modes", "direct"],
  ]) {
    test(`of a ${name} of recorded traffic is whole, whatever its numbers are`, async () => {
      const file = join(directory, `${name}.html`);
      execFileSync(SIM, [name, TRACE, ...words, "--html", file], { stdio: ["ignore", "ignore", "inherit"] });
      for (const width of [1280, 390]) {
        const { page, said } = await opened(pathToFileURL(file).href, { width });
        const there = await page.$$eval("section", (all) => all.map(({ id }) => id));
        for (const section of sections) assert.ok(there.includes(section), section);
        assert.equal(await overflow_px(page), 0);
        assert.deepEqual(await misplacedWords(page), []);
        assert.deepEqual(await violations(page), []);
        assert.deepEqual(said, []);
        await page.screenshot({ path: `${SCREENSHOTS}/${name}-${width}.png`, fullPage: true });
      }
    });
  }

  test("has the numbers of its JSON in the targets, the same as on the terminal", async () => {
    const { page } = await opened(written("evening", json));
    const [header, ...rows] = await table(page, "targets");
    assert.equal(rows.length, report.rows.length);
    for (const [index, row] of report.rows.entries()) {
      const cells = Object.fromEntries(header.map((name, at) => [name, rows[index][at]]));
      const known = row.l1 + row.l2 + row.l3;
      assert.equal(cells.operation, row.operation);
      assert.equal(number(cells.requests), row.requests);
      assert.equal(number(cells.errors), row.errors);
      assert.ok(isShare(cells["L1 %"], row.l1, known), cells["L1 %"]);
      assert.ok(isShare(cells["L2 %"], row.l2, known), cells["L2 %"]);
      assert.ok(row.has_l3 ? isShare(cells["L3 %"], row.l3, known) : cells["L3 %"] === "–", cells["L3 %"]);
      for (const quantile of ["p50", "p95", "p99"]) assert.equal(number(cells[`${quantile} ms`]), milliseconds(row.latency[`${quantile}_us`]));
      assert.equal(cells.target, row.target_ms === null ? "–" : `< ${row.target_ms} ms`);
      assert.equal(cells["at p95"], row.is_met.length === 0 ? "–" : row.is_met[1] ? "met" : "missed");
    }
    const printed = execFileSync(SIM, ["report", "-"], { input: json, encoding: "utf8" });
    // The table ends where a line is empty, and has a rule under its header.
    const lines = printed.split("\n\n")[0].split("\n").filter((line) => !line.includes("─"));
    assert.deepEqual([header, ...rows], lines.map((line) => line.trim().split(/ {2,}/)));
  });

  test("has the numbers of its JSON in the other tables", async () => {
    const { page } = await opened(written("evening", json));
    const [, ...stores] = await table(page, "load");
    assert.deepEqual(stores.map(([name, total, peak, , connections, at_once]) => [name, number(total), number(peak), number(connections), number(at_once)]),
      report.stores.map((load) => [load.store, load.total, load.peak_per_s, load.connections, load.connections_at_once_max]));
    const [, ...bounds] = await table(page, "bounds");
    for (const [index, { name, hit_ratio }] of report.bounds.entries()) {
      assert.equal(bounds[index][0], name);
      assert.ok(isShare(bounds[index][1], hit_ratio, 1), bounds[index][1]);
    }
    const [, ...lines] = await table(page, "what-if");
    assert.equal(lines.length, report.what_if.length);
    for (const [index, line] of report.what_if.entries()) {
      const [settings, l1, missed, worst, voice, errors, postgres, valkey, stale, , front] = lines[index];
      assert.equal(settings, line.settings.map(([name, value]) => `${name} = ${value}`).join("\n") || "as it is");
      assert.ok(isShare(l1, line.l1_share, 1) && isShare(stale, line.stale_share, 1), `${l1} ${stale}`);
      assert.deepEqual([number(missed), number(worst), number(voice), number(errors)], [line.targets_missed, line.worst, milliseconds(line.voice_p95_us), line.errors]);
      assert.deepEqual([number(postgres), number(valkey)], [line.postgres_peak_per_s, line.valkey_peak_per_s]);
      assert.equal(front, line.is_on_front ? "on it" : "–");
    }
  });

  test("marks each target and each peak where it is", async () => {
    const { page } = await opened(written("evening", json));
    const limits = await page.$$eval("#latency .limit", (lines) => lines.map((line) => parseFloat(line.getAttribute("x1"))));
    const targets = report.rows.filter((row) => row.target_ms !== null).map((row) => row.target_ms);
    // Four decades from 0.1 ms on.
    assert.deepEqual(limits, targets.map((ms) => Math.round(((Math.log10(ms) + 1) / 4) * 1e4) / 100));
    const labels = await page.$$eval("#latency .label", (labels) => labels.map((label) => label.textContent));
    assert.deepEqual(labels, targets.map((ms) => `target ${ms} ms`));
    const total_ms = report.timeline.bucket_ms * report.timeline.buckets.length;
    const peaks = await page.$$eval("#load .dot", (dots) => dots.map((dot) => parseFloat(dot.getAttribute("cx"))));
    assert.deepEqual(peaks, report.stores.map((load) => Math.round((load.peak_at_ms / total_ms) * 1e4) / 100));
  });

  test("says what happened at the moment that one points at", async () => {
    const { page } = await opened(written("evening", json));
    const chart = page.locator("#tiers svg.plot").first();
    await chart.scrollIntoViewIfNeeded();
    const box = await chart.boundingBox();
    const at = report.timeline.buckets.length / 2;
    const x = box.x + (box.width * (at + 0.5)) / report.timeline.buckets.length;
    const title = await page.evaluate(([x, y]) => document.elementFromPoint(x, y).querySelector("title").textContent, [x, box.y + 60]);
    const { requests, l1, l2, l3, errors } = report.timeline.buckets[at];
    const percent = (part) => (Math.round((1000 * part) / (l1 + l2 + l3)) / 10).toFixed(1);
    assert.equal(title, `30 min to 30 min 30 s: ${requests} requests; L1 ${percent(l1)} %, L2 ${percent(l2)} %, L3 ${percent(l3)} %; ${errors} errors`);
  });

  test("prints on a few sheets, light also where the screen is dark", async () => {
    const { page, said } = await opened(written("evening", json), { scheme: "dark" });
    const pdf = await page.pdf({ path: `${SCREENSHOTS}/report.pdf`, format: "A4", printBackground: true });
    assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
    const sheets = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g).length;
    assert.ok(sheets >= 2 && sheets <= 6, `${sheets} sheets`);
    await page.emulateMedia({ media: "print" });
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
    assert.deepEqual((await faintTexts(page, CONTRAST_LEAST)).faint, []);
    assert.deepEqual(said, []);
  });

  for (const width of [1280, 390]) {
    test(`holds names and numbers that fit nowhere, ${width} px wide`, async () => {
      const { page, said } = await opened(written("extreme", JSON.stringify(extreme)), { width });
      assert.equal(await overflow_px(page), 0);
      assert.deepEqual(await violations(page), []);
      assert.equal(await page.$("script"), null);
      assert.deepEqual(said, []);
      await page.screenshot({ path: `${SCREENSHOTS}/report-extreme-${width}.png`, fullPage: true });
    });
  }

  test("of an empty report says that there is nothing", async () => {
    const none = { conditions: [], rows: [], timeline: { bucket_ms: 0, buckets: [] }, stores: [], staleness: { ...report.staleness, answers: 0, stale: 0, curve: [] }, bounds: [], what_if: [], notes: [] };
    const { page, said } = await opened(written("empty", JSON.stringify(none)));
    assert.match(await page.innerText("body"), /Nothing was replayed/);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(said, []);
  });
});
