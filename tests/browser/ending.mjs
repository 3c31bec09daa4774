// A token that ends while the page is open: said before, said then, and a new one goes on. usage: URL SOON TOKEN
import assert from "node:assert/strict";
import { assertAccessible, assertNarrow, assertWell, logs, open, tell } from "./page.mjs";

const [url, soon, token] = process.argv.slice(2);

await tell(async () => {
  const page = await open(`${url}/console/#/logs`);
  const status = page.getByRole("status");
  const signIn = async (text) => {
    await page.getByLabel("Token", { exact: true }).fill(text);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
  };
  await signIn(soon);
  await status.filter({ hasText: /^Connected; signed in until \d/ }).waitFor();
  await logs(url, token, { message: "before it ended" });
  await page.getByRole("listbox").getByText("before it ended").waitFor();
  await status.filter({ hasText: /^Refused: .*expired/ }).waitFor();
  // What was seen can still be read.
  await page.getByRole("listbox").getByText("before it ended").waitFor();
  await assertAccessible(page, "ended");
  await assertNarrow(page);
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByRole("alert").filter({ hasText: "expired" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, "the token that ended is kept no longer");
  await signIn(token);
  await status.filter({ hasText: /^Connected$/ }).waitFor();
  await page.getByRole("listbox").getByText("before it ended").waitFor();
  assertWell(page);
});
