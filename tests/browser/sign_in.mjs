// Signing in: by a token, by an address with a ticket, once; another tenant; signing out; what isn't permitted.
import assert from "node:assert/strict";
import { assertAccessible, assertNarrow, assertWell, open, signedIn, tell, until } from "./page.mjs";

const [url, token, ticketUrl, twoTenants, narrow] = process.argv.slice(2);
const links = (page) => page.getByRole("navigation").getByRole("link").allTextContents();

await tell(async () => {
  // First, since a ticket lives for 30 s.
  const byTicket = await open(ticketUrl);
  await byTicket.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  assert.deepEqual(await links(byTicket), ["Runs", "Logs", "Workspaces", "AI", "Connections", "Why"]);
  assert.ok(!byTicket.url().includes("ticket"), "the address keeps no ticket");
  const again = await open(ticketUrl);
  await again.getByRole("alert").filter({ hasText: "used before" }).waitFor();
  await byTicket.reload();
  await byTicket.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  assertWell(byTicket);

  const page = await open(url);
  assert.equal(page.url(), `${url}/console/`);
  await page.getByLabel("Token", { exact: true }).fill("nonsense");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await assertAccessible(page, "sign-in");
  await assertNarrow(page);
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  assert.deepEqual(await links(page), ["Runs", "Logs", "Workspaces", "AI"]);
  await page.reload();
  await page.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token", { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, "nothing is left in the tab");
  assertWell(page);

  const two = await open(`${url}/console/`);
  await two.getByLabel("Token", { exact: true }).fill(twoTenants);
  await two.getByLabel(/^Tenant/).fill("acme");
  await two.getByRole("button", { name: "Sign in" }).click();
  await two.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  await two.getByLabel("Tenant").selectOption("globex");
  await until(async () => (await two.evaluate(() => sessionStorage.getItem("mintflow.console"))).includes('"globex"'), "the tenant is another");
  await two.getByRole("status").filter({ hasText: "Connected" }).waitFor();
  assertWell(two);

  const one = await signedIn(url, narrow);
  assert.deepEqual(await links(one), ["Logs"]);
  assertWell(one);
});
