// The list of log lines by itself: what it keeps of 250,000, what a filter finds in them, and for how long it holds anybody up.
import assert from "node:assert/strict";
import { LogLines, MOST_LINES } from "../../mintflow_realtime/console/static/model/log_lines.js";

const silent = { on() {}, onFresh() {}, call: () => new Promise(() => {}) };
const TEXT = "the quick brown fox jumps over the lazy dog ".repeat(2);
const record = (n) => ({ logId: `log-${n}`, flowId: "load", runId: `r-${n % 7}`, logLevel: n % 100 ? "info" : "error", message: `${n} ${TEXT}`, metadata: {}, createdAt: new Date(n).toISOString() });
const heap = () => (globalThis.gc(), process.memoryUsage().heapUsed / 1e6);

const before = heap();
const lines = new LogLines(silent);
for (let n = 0; n < 250_000; n += 1000) {
  lines.add(Array.from({ length: 1000 }, (_, place) => record(n + place)));
  if (n === 200_000) lines.mark("7 lines dropped");
}
assert.ok(lines.lines.length >= MOST_LINES && lines.lines.length <= MOST_LINES + 5_000, `${lines.lines.length} lines`);
assert.equal(lines.shown.length, lines.lines.length);
assert.equal(lines.line(lines.shown.at(-1)).message.split(" ")[0], "249999");
lines.add([record(249_999)]);
assert.equal(lines.line(lines.shown.at(-1)).logId, "log-249999", "a record that is here already isn't added again");
const held = heap() - before;

// While a filter is at work others have their turn, and lines come.
let turns = 0;
const timer = setInterval(() => (turns += 1), 1);
const filtering = lines.show({ level: "error", text: "FOX", run: "r-1" });
lines.add([{ ...record(250_001), logLevel: "error", runId: "r-1" }]);
await filtering;
clearInterval(timer);
const found = lines.shown.map((number) => lines.line(number));
assert.equal(found.filter((line) => line.marker).length, 1, "what was dropped is shown whatever the filter");
assert.ok(found.every((line) => line.marker || (line.logLevel === "error" && line.runId === "r-1")));
assert.equal(found.at(-1).logId, "log-250001");
const expected = lines.lines.filter((line) => line.marker || (line.logLevel === "error" && line.runId === "r-1")).length;
assert.equal(found.length, expected);
await lines.show(null);
assert.equal(lines.shown.length, lines.lines.length);
console.log(JSON.stringify({ lines: lines.lines.length, megabytes: Math.round(held) }));
process.exit(0);
