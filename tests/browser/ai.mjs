// AI: an answer streams, goes on after a reload, can be stopped, and says how it ended.
import assert from "node:assert/strict";
import { assertAccessible, assertNarrow, assertWell, signedIn, tell, until } from "./page.mjs";

const [url, token] = process.argv.slice(2);

await tell(async () => {
  const page = await signedIn(url, token, "#/ai");
  const ask = async (text) => {
    await page.getByLabel("Question").fill(text);
    await page.getByRole("button", { name: "Ask" }).click();
  };
  const answers = page.locator(".answer");
  await ask("one two three");
  await page.getByText(/finish reason stop; \d+ \+ \d+ = \d+ tokens/).waitFor();
  assert.ok((await answers.last().textContent()).includes("one two three"));
  await assertAccessible(page, "ai");
  await assertNarrow(page);

  const long = Array.from({ length: 160 }, (_, n) => `word${n}`).join(" ");
  await ask(long);
  await until(async () => (await answers.last().textContent()).includes("word3"), "the answer has begun");
  await page.reload();
  await until(async () => (await answers.last().textContent()).includes("word159"), "the answer goes on after a reload");
  const text = await answers.last().textContent();
  assert.equal(text.split("word80 ").length, 2, "no piece of it twice");
  await until(async () => (await page.getByRole("button", { name: "Ask" }).count()) === 1, "it has ended");

  await ask(long);
  await until(async () => (await answers.last().textContent()).includes("word3"), "the answer has begun");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText(/cancelled/).waitFor();
  await page.getByRole("button", { name: "Forget the conversation" }).click();
  await page.getByText("Ask something.").waitFor();
  assertWell(page);
});
