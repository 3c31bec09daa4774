// A page that was away for longer than events are kept: it says so, and shows what it has missed all the same.
import { assertWell, events, logs, signedIn, tell } from "./page.mjs";

const [url, token] = process.argv.slice(2);
// Several times RECOVERY_WINDOW: the session has ended then, however busy the machine is.
const AWAY_MS = 6_000;

await tell(async () => {
  const page = await signedIn(url, token, "#/logs");
  const list = page.getByRole("listbox", { name: "Log lines" });
  await logs(url, token, { message: "before" });
  await list.getByText("before").waitFor();
  await events(url, token, "import", "r-1", [{ type: "flow_started" }]);
  await page.context().setOffline(true);
  await page.getByRole("status").filter({ hasText: "Reconnecting" }).waitFor();
  await logs(url, token, { message: "meanwhile" });
  await events(url, token, "import", "r-1", [{ type: "flow_completed" }]);
  await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  await page.context().setOffline(false);
  await page.getByRole("status").filter({ hasText: "fetched anew" }).waitFor();
  await list.getByText("meanwhile").waitFor();
  await logs(url, token, { message: "after" });
  await page.getByText("3 lines", { exact: true }).waitFor();
  await page.getByRole("link", { name: "Runs" }).click();
  await page.getByRole("row").filter({ hasText: "r-1" }).filter({ hasText: "completed" }).waitFor();
  assertWell(page);
});
