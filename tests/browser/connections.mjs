// Connections: nodes, clients and users as the server tells of them, by pages; closing a client and all of a user's.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { assertAccessible, assertNarrow, assertWell, signedIn, tell, until } from "./page.mjs";

const [url, admin, tenant, ann, bob, eve] = process.argv.slice(2);
const clients = [];

async function client(token, run) {
  const socket = io(`${url}/flows`, { forceNew: true, auth: { token }, transports: ["websocket"] });
  clients.push(socket);
  socket.on("disconnect", (reason) => (socket.ended = reason));
  await until(() => socket.connected, "a client connects");
  if (run) assert.ok((await socket.timeout(20_000).emitWithAck("subscribe_flow", { runId: run })).ok);
  return socket;
}

await tell(async () => {
  const [first, second, other] = [await client(ann, "r-1"), await client(ann), await client(bob, "r-1")];
  const page = await signedIn(url, admin, "#/runs");

  // What a server of before answers, which has no such paths; and a node that says nothing, beside what the others say.
  const older = /\/api\/v1\/(nodes|connections)/;
  await page.route(older, (route) => route.fulfill({ status: 404, contentType: "text/html", body: "<h1>Not Found</h1>" }));
  await page.getByRole("link", { name: "Connections" }).click();
  await page.getByText("This server does not tell who is connected").waitFor();
  await page.unroute(older);
  const silent = /\/api\/v1\/connections/;
  await page.route(silent, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), unanswered: ["n2"] } });
  });
  await page.getByRole("alert").filter({ hasText: "Without an answer: n2" }).waitFor();
  await page.unroute(silent);
  await page.getByRole("alert").waitFor({ state: "detached" });

  await page.getByLabel("Tenant").fill(tenant);
  await page.getByLabel("Tenant").press("Tab");
  const rows = page.getByRole("region", { name: "Clients" }).getByRole("row");
  const row = (sid) => rows.filter({ hasText: sid });
  await page.getByText("4 clients", { exact: true }).waitFor();
  await until(async () => (await rows.count()) === 5, "three clients, the page itself, and a head");
  const nodes = page.getByRole("region", { name: "Nodes" });
  assert.equal(await nodes.getByRole("row").count(), 3);
  await nodes.getByText("serving").first().waitFor();
  const told = await row(first.id).innerText();
  for (const part of ["ann", tenant, "/flows", `${tenant}:run:r-1`, "websocket", "ago"]) assert.ok(told.includes(part), `${part} in ${told}`);
  await page.getByText(/^events a second: \d/).waitFor();
  assert.equal(await page.locator(".chart canvas").count(), 1);
  await assertAccessible(page, "connections");
  await assertNarrow(page);

  await page.getByLabel("Room").fill(`${tenant}:run:r-1`);
  await page.getByLabel("Room").press("Tab");
  await page.getByText("2 clients", { exact: true }).waitFor();
  assert.equal(await row(second.id).count(), 0);
  await page.getByLabel("Room").fill("");
  await page.getByLabel("Room").press("Tab");
  await row(second.id).waitFor();

  await page.getByRole("button", { name: "Users", exact: true }).click();
  const users = page.getByRole("region", { name: "Users" });
  assert.match(await users.getByRole("row", { name: "ann" }).innerText(), /^ann\s+\S+\s+2\s/);
  await assertAccessible(page, "users");
  await assertNarrow(page);
  await page.getByRole("button", { name: "Show the clients of ann" }).click();
  await page.getByText("2 clients", { exact: true }).waitFor();
  assert.equal(await page.getByLabel("User", { exact: true }).inputValue(), "ann");

  // One of ann's two, then what is left of ann.
  await row(second.id).getByRole("button", { name: "Close a connection of ann" }).click();
  await page.getByRole("button", { name: "Leave" }).click();
  await row(second.id).getByRole("button", { name: "Close a connection of ann" }).click();
  await page.getByRole("button", { name: "This one" }).click();
  await page.getByText("The connection is being closed.").waitFor();
  await until(() => second.ended === "io server disconnect", "the client is told, and stays away");
  await page.getByText("1 client", { exact: true }).waitFor();
  assert.ok(first.connected && other.connected);
  const third = await client(ann);
  await row(third.id).getByRole("button", { name: "Close a connection of ann" }).click();
  await page.getByRole("button", { name: "All of ann" }).click();
  await page.getByText("2 connections of ann are being closed.").waitFor();
  await until(() => first.ended === "io server disconnect" && third.ended === "io server disconnect", "both are gone");
  await page.getByText("0 clients", { exact: true }).waitFor();
  assert.ok(other.connected);

  // More than a page has.
  await client(eve);
  for (let n = 0; n < 10; n += 1) await Promise.all(Array.from({ length: 10 }, () => client(eve)));
  await page.getByLabel("User", { exact: true }).fill("eve");
  await page.getByLabel("User", { exact: true }).press("Tab");
  await page.getByText("100 clients on page 1").waitFor();
  const onFirst = await rows.getByRole("rowheader").allInnerTexts();
  await page.getByRole("button", { name: "Next page" }).click();
  await page.getByText("1 client on page 2").waitFor();
  const [last] = await rows.getByRole("rowheader").allInnerTexts();
  assert.equal(new Set([...onFirst, last]).size, 101, "each is on one page");
  assert.ok(await page.getByRole("button", { name: "Next page" }).isDisabled());
  await page.getByRole("button", { name: "Page before" }).click();
  await page.getByText("100 clients on page 1").waitFor();
  assertWell(page);
});
for (const socket of clients) socket.disconnect();
