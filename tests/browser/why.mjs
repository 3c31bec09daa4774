// Why: what became of a run's event for one who got it, one who wasn't in the room, and one who never was there.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { assertAccessible, assertNarrow, assertWell, events, signedIn, tell, until } from "./page.mjs";

const [url, admin, tenant, ann, bob] = process.argv.slice(2);
const clients = [ann, bob].map((token) => io(`${url}/flows`, { forceNew: true, auth: { token }, transports: ["websocket"] }));

await tell(async () => {
  await until(() => clients.every((socket) => socket.connected), "both connect");
  const heard = new Promise((resolve) => clients[0].on("node_started", resolve));
  assert.ok((await clients[0].timeout(20_000).emitWithAck("subscribe_flow", { runId: "r-1" })).ok);
  const { offsets: [offset] } = await events(url, bob, "f", "r-1", [{ type: "node_started", nodeId: "n" }]);
  await heard;

  const page = await signedIn(url, admin, "#/why");
  const answer = page.getByRole("region", { name: "Connections of the user" });
  const ask = async (user, of = offset) => {
    await page.getByLabel("Offset").fill(of);
    await page.getByLabel("User", { exact: true }).fill(user);
    await page.getByRole("button", { name: "Ask" }).click();
  };
  assert.equal(await page.getByLabel("Tenant").inputValue(), tenant, "the page's own");
  // Its node notes down some moments later when it heard an event.
  await until(async () => {
    await ask("ann");
    await answer.getByRole("row").nth(1).waitFor();
    return /^delivered\s.*delivered live at \d{4}-/s.test(await answer.getByRole("row").nth(1).innerText());
  }, "it is known to be delivered");
  assert.ok((await answer.innerText()).includes(clients[0].id));
  await page.getByText(`node_started ${offset} in /flows was numbered`).waitFor();
  await page.getByText(`${tenant}:run:r-1`).waitFor();
  assert.ok(await page.getByRole("list").getByRole("listitem").count(), "a node heard it");
  await assertAccessible(page, "why");
  await assertNarrow(page);
  await ask("bob");
  await answer.getByText("not in the room").waitFor();
  await ask("nobody");
  await answer.getByText("nobody wasn't in /flows").waitFor();
  await page.getByLabel("Namespace").fill("/logs");
  await ask("ann");
  await page.getByText("has no such event any more in /logs").waitFor();
  await page.getByLabel("Namespace").fill("");
  await ask("ann", "nonsense");
  await page.getByText("Expected").waitFor();
  assert.equal(await answer.count(), 0, "an answer of before is not another question's");
  assertWell(page);
});
for (const socket of clients) socket.disconnect();
