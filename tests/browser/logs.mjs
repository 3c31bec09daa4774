// Logs: history and live, filters, pause, what is chosen, what was dropped, download; a narrow screen.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { assertAccessible, assertWell, logs, signedIn, tell } from "./page.mjs";

const [url, token] = process.argv.slice(2);
const publish = (records) => logs(url, token, records);

await tell(async () => {
  await publish(Array.from({ length: 1000 }, (_, n) => ({ message: `old ${n}`, flowId: "import" })));
  await publish(Array.from({ length: 500 }, (_, n) => ({ message: `newer ${n}`, flowId: "import", runId: `r-${n % 3}`, nodeId: "load" })));
  const page = await signedIn(url, token, "#/logs");
  const list = page.getByRole("listbox", { name: "Log lines" });
  const lines = (n) => page.getByText(`${n.toLocaleString("en")} line${n === 1 ? "" : "s"}`, { exact: true }).waitFor();
  await lines(1500);
  await list.getByText("newer 499").waitFor();
  assert.ok((await list.getByRole("option").count()) < 100, "only what is seen is drawn");
  await publish([{ message: "a warning", logLevel: "warn" }, { message: "an error", logLevel: "error", metadata: { order: { id: 7, items: ["a", "b"] } } }]);
  await list.getByText("an error").waitFor();
  await lines(1502);

  await page.getByLabel("level").selectOption("warn");
  await lines(2);
  await page.getByLabel("level").selectOption("");
  await page.getByLabel("text").fill("NEWER 49");
  await lines(11);
  await page.getByLabel("run").fill("r-1");
  await lines(5);
  await publish({ message: "newer 49 and later", runId: "r-1" });
  await lines(6);
  await page.getByLabel("text").fill("");
  await page.getByLabel("run").fill("");
  await page.getByLabel("node").fill("load");
  await lines(500);
  await page.getByLabel("node").fill("");
  await lines(1503);

  await page.getByRole("button", { name: "Pause" }).click();
  await list.evaluate((one) => { one.scrollTop = 0; });
  await list.getByText("old 0", { exact: true }).waitFor();
  await publish({ message: "while away" });
  await lines(1504);
  assert.equal(await list.evaluate((one) => one.scrollTop), 0, "what is read stays where it is");
  await page.getByRole("button", { name: "Jump to now" }).click();
  await list.getByText("while away").waitFor();
  await list.getByText("an error").click();
  const details = page.getByRole("complementary", { name: "The chosen line" });
  await details.getByText('"b"').waitFor();
  await page.getByRole("button", { name: "Relative times" }).click();
  await list.getByText(/ago|now/).first().waitFor();
  await assertAccessible(page, "logs");
  await page.setViewportSize({ width: 360, height: 640 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 360), "a narrow screen isn't scrolled sideways");
  await assertAccessible(page, "logs-narrow");
  await page.setViewportSize({ width: 1200, height: 760 });

  await page.getByLabel("level").selectOption("warn");
  await lines(2);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
  const saved = readFileSync(await file.path(), "utf-8").trim().split("\n").map((line) => JSON.parse(line).message);
  assert.deepEqual(saved, ["a warning", "an error"]);
  await page.getByLabel("level").selectOption("");
  assertWell(page);
});
