// A page that doesn't read for a while: the server drops the oldest lines, and the list says how many, where it was.
import assert from "node:assert/strict";
import { assertWell, logs, signedIn, tell, until } from "./page.mjs";

const [url, token] = process.argv.slice(2);
const publish = (records) => logs(url, token, records);
// More than the kernel, nginx and the browser hold between them.
const BATCHES = 14;
// Above this the page says that it is behind.
const BEHIND_MS = 5_000;
const LONG = "x".repeat(60_000);

await tell(async () => {
  const page = await signedIn(url, token, "#/logs");
  await publish({ message: "before" });
  const list = page.getByRole("listbox", { name: "Log lines" });
  await list.getByText("before").waitFor();
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Debugger.enable");
  const paused = new Promise((resolve) => cdp.once("Debugger.paused", resolve));
  await cdp.send("Debugger.pause");
  // It pauses at the next statement that the page runs: its clock ticks each second.
  await paused;
  const begun = Date.now();
  let batches = 0;
  for (; batches < BATCHES || Date.now() - begun < BEHIND_MS; batches += 1) {
    await publish(Array.from({ length: 60 }, (_, n) => ({ message: `${batches}-${n} ${LONG}` })));
  }
  await cdp.send("Debugger.resume");
  await cdp.send("Debugger.disable");
  await page.getByRole("status").filter({ hasText: "s behind" }).waitFor();
  await publish({ message: "after" });
  await list.getByText("after", { exact: true }).waitFor();
  const shown = async () => parseInt((await page.getByText(/^[\d,]+ lines?$/).textContent()).replaceAll(",", ""), 10);
  const whole = await shown();
  // Such a line is in every selection; of this level there is no other.
  await page.getByRole("combobox", { name: "level" }).selectOption("error");
  const markers = list.getByText(/lines dropped/);
  await markers.first().waitFor();
  await until(async () => (await shown()) === (await markers.count()), "those lines alone are shown");
  const dropped = (await markers.allTextContents()).reduce((sum, text) => sum + parseInt(text.replace(/\D+/, ""), 10), 0);
  assert.equal(whole - (await markers.count()) + dropped, 2 + batches * 60, "all lines are there, or counted");
  assertWell(page);
});
