// An attempt at markup in every field that somebody else can fill: it is shown as it is, and nothing of it comes to life.
import assert from "node:assert/strict";
import { api, assertWell, events, logs, signedIn, tell, until } from "./page.mjs";

const [url, attacker, token] = process.argv.slice(2);
const BAD = `<img src=x onerror="alert(1)"><script>alert(2)</script><svg/onload=alert(3)>`;
const LINK = "javascript:alert(4)";

await tell(async () => {
  const page = await signedIn(url, token);
  const inert = async (what) => {
    await page.getByText("alert(1)").filter({ visible: true }).first().waitFor();
    const alive = await page.evaluate(() => document.querySelectorAll("img, main svg, main script, iframe, a[href^='javascript:'], [onerror], [onload]").length);
    assert.equal(alive, 0, what);
  };
  const bad = { [BAD]: BAD, ["__proto__"]: { x: BAD }, link: LINK };
  await events(url, attacker, BAD, BAD, [
    { type: "flow_started", data: bad }, { type: "node_started", nodeId: BAD }, { type: "node_failed", nodeId: BAD, error: bad },
    { type: "flow_failed", error: BAD }]);
  await events(url, attacker, LINK, LINK, [{ type: "flow_started" }]);
  await logs(url, attacker, { flowId: BAD, runId: BAD, nodeId: BAD, message: BAD, logLevel: BAD, metadata: bad });
  await api(url, attacker, "PUT", "/workspaces/board", { ...bad, list: [BAD], constructor: BAD });

  await page.getByRole("link", { name: BAD }).waitFor();
  await inert("runs");
  await page.getByRole("link", { name: BAD }).click();
  await page.getByRole("listbox", { name: "Log of the run" }).getByText("alert(1)").first().waitFor();
  await inert("run");
  await page.getByRole("button", { name: "errors" }).click();
  await inert("errors");
  await page.getByRole("button", { name: "events" }).click();
  await inert("events");
  await page.getByRole("link", { name: "Logs", exact: true }).click();
  await page.getByRole("option").filter({ hasText: "alert(1)" }).first().click();
  await page.getByRole("complementary").getByText("alert(1)").first().waitFor();
  await inert("logs");

  const other = await signedIn(url, attacker, "#/workspaces");
  for (const one of [other, page]) {
    if (one === page) await page.getByRole("link", { name: "Workspaces" }).click();
    await one.getByLabel("Workspace", { exact: true }).fill("board");
    await one.getByRole("button", { name: "Open", exact: true }).click();
    await one.getByRole("heading", { name: "State" }).or(one.getByText("version 1")).first().waitFor();
  }
  await other.getByRole("button", { name: /^Change .*list/ }).first().click();
  await page.getByText('{"at":').waitFor();
  await inert("workspaces");
  await page.getByRole("link", { name: "AI", exact: true }).click();
  await page.getByLabel("Question").fill(BAD);
  await page.getByRole("button", { name: "Ask" }).click();
  await page.getByText(/finish reason stop/).waitFor();
  await until(async () => (await page.locator(".answer").textContent()).includes("alert(3)"), "the answer is there");
  await inert("ai");
  await page.goto(`${url}/console/#/run/${encodeURIComponent(BAD)}/${encodeURIComponent(LINK)}`);
  await page.getByText("is not known here").waitFor();
  assertWell(page);
  assertWell(other);
});
