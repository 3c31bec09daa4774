// 10,000 lines and then 200 a second: how long the page's main thread is ever busy at once, and what memory does.
import assert from "node:assert/strict";
import { assertWell, logs, signedIn, tell, until } from "./page.mjs";

const [url, token, seconds] = process.argv.slice(2);
const SECONDS = Number(seconds);
const PER_SECOND = 200;
const TEXT = "the quick brown fox jumps over the lazy dog ".repeat(2);
const publish = (from, count) =>
  logs(url, token, Array.from({ length: count }, (_, n) => ({ message: `${from + n} ${TEXT}`, flowId: "load", runId: `r-${n % 7}` })));

await tell(async () => {
  const page = await signedIn(url, token, "#/logs");
  const cdp = await page.context().newCDPSession(page);
  const durations = [];
  cdp.on("Tracing.dataCollected", ({ value }) => {
    for (const event of value) if (event.name.endsWith("RunTask") && event.ph === "X") durations.push({ thread: `${event.pid}/${event.tid}`, ms: event.dur / 1000 });
    for (const event of value) if (event.name === "thread_name" && event.args.name === "CrRendererMain") mains.add(`${event.pid}/${event.tid}`);
  });
  const mains = new Set();
  const heap = async () => {
    await cdp.send("HeapProfiler.collectGarbage");
    return (await cdp.send("Runtime.getHeapUsage")).usedSize / 1e6;
  };
  await cdp.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "__metadata"], recordMode: "recordUntilFull" } });
  for (let n = 0; n < 10; n += 1) await publish(n * 1000, 1000);
  await page.getByText("10,000 lines", { exact: true }).waitFor();
  const early = await heap();
  const began = Date.now();
  let sent = 10_000;
  // A busy machine that falls behind catches up: it is as many lines, whatever they take.
  const all = 10_000 + SECONDS * PER_SECOND;
  while (sent < all) {
    const due = Math.min(all, 10_000 + Math.floor(((Date.now() - began) / 1000) * PER_SECOND));
    if (due > sent) {
      await publish(sent, Math.min(1000, due - sent));
      sent += Math.min(1000, due - sent);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await page.getByText(`${sent.toLocaleString("en")} lines`, { exact: true }).waitFor();
  await page.getByRole("listbox").getByText(`${sent - 1} the quick`).waitFor();
  const done = new Promise((resolve) => cdp.once("Tracing.tracingComplete", resolve));
  await cdp.send("Tracing.end");
  await done;
  const late = await heap();
  const tasks = durations.filter((one) => mains.has(one.thread)).map((one) => one.ms).sort((a, b) => a - b);
  assert.ok(tasks.length > 1000, `${tasks.length} tasks were seen`);
  const at = (part) => tasks[Math.min(tasks.length - 1, Math.floor(tasks.length * part))];
  const drawn = await page.getByRole("option").count();
  console.log(JSON.stringify({ lines: sent, tasks: tasks.length, p50: at(0.5), p99: at(0.99), p999: at(0.999), longest: at(1), over50: tasks.filter((ms) => ms > 50).length, heapAt10000: early, heapAtEnd: late, drawn }));
  assert.ok(at(0.99) <= 50, `the 99th percentile of tasks is ${at(0.99)} ms`);
  // What the lines themselves are; without a bound it would also be what was drawn.
  assert.ok(late - early < 5 + (sent - 10_000) * 0.002, `the heap grew from ${early} to ${late} MB`);
  assert.ok(drawn < 100);
  assertWell(page);
  await until(() => page.getByRole("status").filter({ hasText: "Connected" }).count(), "it is still connected");
});
