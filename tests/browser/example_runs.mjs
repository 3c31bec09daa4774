// examples/runs.html, opened as a file: the list that was read is kept up to date by the events, over a lost connection too.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { assertWell, events, open, tell, until } from "./page.mjs";

const [url, token] = process.argv.slice(2);

await tell(async () => {
  await events(url, token, "f", "early", [{ type: "flow_started" }, { type: "flow_completed" }]);
  const place = pathToFileURL("examples/runs.html");
  place.search = new URLSearchParams({ server: url, token });
  const page = await open(String(place));
  const rows = async () =>
    (await page.locator("tr").allInnerTexts()).map((text) => text.split("\t").slice(1, 4).join(" "));
  const shows = (...wanted) =>
    until(async () => JSON.stringify(await rows()) === JSON.stringify(wanted), `the rows are ${wanted}`).catch(async (error) => {
      error.message += `, but ${JSON.stringify(await rows())}: ${await page.locator("#state").innerText()}`;
      throw error;
    });
  await shows("early completed 1");
  await events(url, token, "f", "late", [{ type: "flow_started" }]);
  await shows("late started 1", "early completed 1");
  await events(url, token, "f", "early", [{ type: "flow_started" }, { type: "flow_failed", error: "x" }]);
  await shows("early failed 2", "late started 1");

  await page.context().setOffline(true);
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  await until(async () => (await page.locator("#state").innerText()).endsWith("connecting again"), "the page is cut off");
  await events(url, token, "f", "late", [{ type: "flow_completed" }]);
  await page.context().setOffline(false);
  await shows("early failed 2", "late completed 1");
  assertWell(page);
  assert.equal(await page.locator("tr.failed").count(), 1);
});
