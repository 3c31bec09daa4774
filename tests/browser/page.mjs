// What the scripts share: a browser with one page of the console, requests to the API, and what must not have happened.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
// A busy machine may need this; an idle one waits for none of it.
export const PATIENCE = 30_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
  env: process.env,
});
process.on("SIGTERM", () => browser.close().finally(() => process.exit(1)));

/** Run `story`; then nothing may have broken the policy or raised. Ends the process. */
export async function tell(story) {
  try {
    await story();
    process.exitCode = 0;
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

/** Open a page of its own; `faults` are its exceptions, and all that its policy has stopped. */
export async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 }, acceptDownloads: true, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`raised: ${error.stack || error}`));
  page.on("console", (message) => {
    const text = message.text();
    // What the network answers is told there too, and is often meant to be.
    if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(text)) page.faults.push(`console: ${text}`);
  });
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(url);
  return page;
}

export function assertWell(page) {
  assert.deepEqual(page.faults, []);
}

/** Open the console, signed in by a token. */
export async function signedIn(url, token, hash = "", options = {}) {
  const page = await open(`${url}/console/${hash}`, options);
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("status").filter({ hasText: /^Connected/ }).waitFor();
  return page;
}

/** Ask the HTTP API as the bearer of `token`, again where a busy machine's Redis was too slow; the key makes that the same. */
export async function api(url, token, method, path, body) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() };
  const response = await until(async () => {
    const found = await fetch(`${url}/api/v1${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    return found.status === 503 ? null : found;
  }, `${method} ${path} is answered`);
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
}

/** Publish log records; those without a level are of `info`. */
export const logs = (url, token, records) =>
  api(url, token, "POST", "/logs", [records].flat().map((one) => ({ logLevel: "info", ...one })));

export const events = (url, token, flow, run, list) =>
  api(url, token, "POST", `/flows/${encodeURIComponent(flow)}/runs/${encodeURIComponent(run)}/events`, list);

/** Wait until `condition` is true of the page. */
export async function until(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Fail where a narrow screen would have to be scrolled sideways. */
export async function assertNarrow(page) {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 320, height: 640 });
  await until(() => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page fits into 320 pixels");
  await page.setViewportSize(before);
}

/** Fail where axe-core finds something, in light or dark. */
export async function assertAccessible(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() =>
      axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
    const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
    assert.deepEqual(found, [], `${name}, ${colorScheme}`);
    if (process.env.PICTURES) {
      mkdirSync(process.env.PICTURES, { recursive: true });
      await page.screenshot({ path: `${process.env.PICTURES}/console-${name}-${colorScheme}.png` });
    }
  }
}
