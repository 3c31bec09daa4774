// All workers are killed in mid-run: the page comes back by itself, says so, and shows each line and event once.
import assert from "node:assert/strict";
import { assertWell, events, open, tell, until } from "./page.mjs";

const [url, token, address, ...pids] = process.argv.slice(2);

/** Publish, again and again until it is accepted; the key makes repeats the same. */
async function publish(path, key, body) {
  await until(async () => {
    try {
      const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "Idempotency-Key": key };
      const response = await fetch(`${url}/api/v1${path}`, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(5000) });
      return response.status === 202;
    } catch {
      return false;
    }
  }, `${path} is accepted`);
}

await tell(async () => {
  // Signed in by a ticket, which is spent: each connection from now on needs a new one.
  const page = await open(address);
  await page.getByRole("status").filter({ hasText: /^Connected/ }).waitFor();
  await events(url, token, "long", "run", [{ type: "flow_started" }]);
  await page.getByRole("link", { name: "run", exact: true }).click();
  const states = await page.evaluateHandle(() => {
    const seen = [];
    const status = document.querySelector(".status");
    new MutationObserver(() => seen.at(-1) !== status.dataset.state && seen.push(status.dataset.state))
      .observe(status, { attributes: true, childList: true, subtree: true, characterData: true });
    return seen;
  });
  const told = [];
  for (let n = 0; n < 60; n += 1) {
    if (n === 20) for (const pid of pids) process.kill(Number(pid), "SIGKILL");
    await publish("/logs", `log-${n}`, { logLevel: "info", message: `line ${n}`, flowId: "long", runId: "run" });
    await publish("/flows/long/runs/run/events", `node-${n}`, { type: "node_started", nodeId: `node-${n}` });
    told.push(`line ${n}`);
  }
  await publish("/flows/long/runs/run/events", "end", { type: "flow_completed" });
  await page.locator(".badge[data-status=completed]").first().waitFor();
  await page.getByRole("button", { name: "node-59" }).waitFor();
  assert.equal(await page.locator("button.node").count(), 60);
  assert.ok((await states.jsonValue()).includes("reconnecting"), "it said that it was away");
  assert.ok((await states.jsonValue()).includes("recovered"), "it said that it is back, and with what");
  assert.ok(!(await states.jsonValue()).includes("resync"));

  await page.getByRole("link", { name: "Logs" }).click();
  await page.getByText("60 lines", { exact: true }).waitFor();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
  const stream = await file.createReadStream();
  let saved = "";
  for await (const piece of stream) saved += piece;
  assert.deepEqual(saved.trim().split("\n").map((line) => JSON.parse(line).message), told);
  assertWell(page);
});
