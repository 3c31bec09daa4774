// Anonymous, where nobody without a token may do anything; and the theme, which the bar's button changes.
import assert from "node:assert/strict";
import { assertAccessible, assertNarrow, assertWell, open, tell, until } from "./page.mjs";

const [url, token] = process.argv.slice(2);
const LIGHT = "rgb(255, 255, 255)";

await tell(async () => {
  const page = await open(`${url}/console/#/connections`);
  const links = page.getByRole("navigation").getByRole("link");
  await page.getByText("You may see nothing here.").waitFor();
  await page.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  await page.getByText("anonymous", { exact: true }).waitFor();
  assert.equal(await links.count(), 0);
  await assertAccessible(page, "nothing");
  await assertNarrow(page);

  // The system's own first, then what was chosen, whatever the system says; a reload keeps it.
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const button = page.getByRole("button", { name: /^Theme/ });
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await paper(), LIGHT);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await paper(), LIGHT);
  await button.click();
  await page.getByRole("button", { name: "Theme: light" }).waitFor();
  await until(async () => (await paper()) === LIGHT, "light is light");
  await page.reload();
  await page.getByRole("button", { name: "Theme: light" }).waitFor();
  assert.equal(await paper(), LIGHT);
  await button.click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  await page.emulateMedia({ colorScheme: "light" });
  await until(async () => (await paper()) !== LIGHT, "dark is dark");
  await button.click();
  await page.getByRole("button", { name: "Theme: auto" }).waitFor();
  await until(async () => (await paper()) === LIGHT, "the system's again");

  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await links.filter({ hasText: "Runs" }).waitFor();
  assertWell(page);
});
