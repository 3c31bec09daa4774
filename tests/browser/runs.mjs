// Runs and one run: live, filtered, by keyboard; two tenants see their own; a run that is over is found again.
import assert from "node:assert/strict";
import { assertAccessible, assertNarrow, assertWell, events, logs, signedIn, tell, until } from "./page.mjs";

const [url, token, other] = process.argv.slice(2);
const OLDER = [
  ["nightly-report", "thu-0400", { type: "flow_completed" }],
  ["nightly-report", "fri-0400", { type: "node_started", nodeId: "render" }, { type: "node_failed", nodeId: "render", error: "no font" }, { type: "flow_failed", error: "1 of 9 pages failed" }],
  ["import", "batch-17", { type: "flow_completed" }],
  ["import", "batch-18", { type: "flow_progress", progress: 65 }],
  ["wordcount", "20261129-a", { type: "flow_progress", progress: 10 }],
];

await tell(async () => {
  const page = await signedIn(url, token);
  const elsewhere = await signedIn(url, other);
  const row = (id) => page.getByRole("row").filter({ has: page.getByRole("link", { name: id, exact: true }) });
  for (const [flow, run, ...rest] of OLDER) await events(url, token, flow, run, [{ type: "flow_started" }, ...rest]);
  await row("thu-0400").filter({ hasText: "completed" }).waitFor();
  const begin = ["connect", "list"].flatMap((nodeId) => [{ type: "node_started", nodeId }, { type: "node_completed", nodeId }]);
  await events(url, token, "invoices", "r-1", [{ type: "flow_started" }, ...begin, { type: "node_started", nodeId: "fetch" }]);
  await row("r-1").filter({ hasText: "running" }).waitFor();
  await events(url, token, "invoices", "r-1", [
    { type: "node_completed", nodeId: "fetch" }, { type: "node_started", nodeId: "parse" }, { type: "flow_progress", progress: 40 }]);
  await row("r-1").filter({ hasText: "40 %" }).waitFor();
  await events(url, token, "reports", "r-2", [{ type: "flow_started" }, { type: "flow_failed", error: "out of paper" }]);
  await row("r-2").filter({ hasText: "out of paper" }).waitFor();

  await page.keyboard.press("/");
  await page.keyboard.type("paper");
  await row("r-1").waitFor({ state: "detached" });
  await page.getByLabel("Search").fill("");
  await page.getByRole("combobox", { name: "Status" }).selectOption("started");
  await row("r-2").waitFor({ state: "detached" });
  await page.getByRole("combobox", { name: "Status" }).selectOption("");
  await page.getByRole("combobox", { name: "Flow" }).selectOption("invoices");
  await row("r-2").waitFor({ state: "detached" });
  await page.getByRole("combobox", { name: "Flow" }).selectOption("");
  await assertAccessible(page, "runs");
  await assertNarrow(page);

  await logs(url, token, [
    { flowId: "invoices", runId: "r-1", nodeId: "fetch", message: "40 fetched" },
    { flowId: "invoices", runId: "r-1", nodeId: "parse", message: "line 3 is odd", logLevel: "warning", metadata: { line: 3 } }]);
  await page.getByRole("region", { name: "Table of runs" }).focus();
  await page.keyboard.press("ArrowDown");
  await until(async () => (await page.evaluate(() => document.activeElement.textContent)) === "r-2", "the newest run has the focus");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const log = page.getByRole("listbox", { name: "Log of the run" });
  await log.getByText("line 3 is odd").waitFor();
  await events(url, token, "invoices", "r-1", [
    { type: "node_failed", nodeId: "parse", error: { code: 7, text: "no total" } }, { type: "node_started", nodeId: "parse" }]);
  await page.getByRole("row", { name: /parse/ }).filter({ hasText: "running (2)" }).waitFor();
  await page.getByRole("button", { name: "fetch" }).click();
  await log.getByText("40 fetched").waitFor();
  await log.getByText("line 3 is odd").waitFor({ state: "detached" });
  await logs(url, token, { flowId: "invoices", runId: "r-1", nodeId: "fetch", message: "41 fetched" });
  await log.getByText("41 fetched").waitFor();
  await page.getByRole("button", { name: "fetch" }).click();
  await assertAccessible(page, "run");
  await assertNarrow(page);

  await events(url, token, "invoices", "r-1", [{ type: "node_failed", nodeId: "parse", error: "no total again" }, { type: "flow_failed", error: "gave up" }]);
  await page.getByRole("button", { name: "errors" }).click();
  await page.getByRole("region", { name: "Errors" }).getByText("no total again").waitFor();
  await page.getByLabel("Error of the run").filter({ hasText: "gave up" }).waitFor();
  await page.getByRole("button", { name: "events" }).click();
  const items = page.getByRole("region", { name: "Events" }).getByRole("listitem");
  await until(async () => (await items.count()) === 13, "all events are there, once");
  assert.deepEqual((await items.locator("b").allTextContents()).slice(0, 3), ["flow_started", "node_started", "node_completed"]);

  // What has ended is known to this tab after a reload, and to another one by its logs.
  await page.goto(`${url}/console/#/runs`);
  await page.reload();
  await row("r-1").filter({ hasText: "gave up" }).waitFor();
  await row("r-2").waitFor();
  const third = await signedIn(url, token);
  await third.getByRole("link", { name: "r-1", exact: true }).waitFor();

  assert.equal(await elsewhere.getByRole("link", { name: "r-1", exact: true }).count(), 0);
  await events(url, other, "invoices", "theirs", [{ type: "flow_started" }]);
  await elsewhere.getByRole("link", { name: "theirs", exact: true }).waitFor();
  assert.equal(await elsewhere.getByRole("row").count(), 2);
  assert.equal(await page.getByRole("link", { name: "theirs", exact: true }).count(), 0);
  for (const one of [page, elsewhere, third]) assertWell(one);
});
