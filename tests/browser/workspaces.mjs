// Workspaces: a state as a tree, written from two pages; who is here; an edit that met another's.
import assert from "node:assert/strict";
import { api, assertAccessible, assertNarrow, assertWell, signedIn, tell, until } from "./page.mjs";

const [url, ann, bob] = process.argv.slice(2);
const state = async () => (await api(url, ann, "GET", "/workspaces/board")).state;

await tell(async () => {
  await api(url, ann, "PUT", "/workspaces/board", { title: "Plan", zoom: 1, cards: [{ id: 1, text: "one" }], "a/b~c": true });
  const [one, two] = [await signedIn(url, ann, "#/workspaces"), await signedIn(url, bob, "#/workspaces")];
  for (const page of [one, two]) {
    await page.getByLabel("Workspace", { exact: true }).fill("board");
    await page.getByRole("button", { name: "Open", exact: true }).click();
    await page.getByRole("button", { name: "Change /zoom" }).waitFor();
  }
  await one.getByRole("heading", { name: "2 clients here" }).waitFor();
  const write = async (page, path, text) => {
    await page.getByRole("button", { name: `Change ${path}` }).click();
    await page.getByRole("textbox", { name: `Change ${path}` }).fill(text);
    await page.getByRole("button", { name: "Write", exact: true }).click();
  };
  await write(one, "/zoom", "2.5");
  await two.getByRole("button", { name: "Change /zoom: 2.5" }).waitFor();
  await two.getByText('{"at":"/zoom"}').waitFor();
  await write(two, "/a~1b~0c", "false");
  await one.getByRole("button", { name: "Change /a~1b~0c: false" }).waitFor();
  await one.locator("details").last().locator("summary").click();
  await one.getByLabel("Name").last().fill("owner");
  await one.getByLabel("Value").last().fill("ann");
  await one.getByRole("button", { name: "Add", exact: true }).last().click();
  await two.getByRole("button", { name: 'Change /owner: "ann"' }).waitFor();
  await two.getByRole("button", { name: "Remove /owner" }).click();
  await until(async () => !("owner" in (await state())), "it is removed");

  // Another place that was written meanwhile is no clash; the same one is.
  await one.getByRole("button", { name: "Change /title" }).click();
  await write(two, "/zoom", "3");
  await one.getByRole("button", { name: "Change /zoom: 3" }).waitFor();
  await one.getByRole("textbox", { name: "Change /title" }).fill('"Plan B"');
  await one.getByRole("button", { name: "Write", exact: true }).click();
  await two.getByRole("button", { name: 'Change /title: "Plan B"' }).waitFor();
  await one.getByRole("button", { name: 'Change /title: "Plan B"' }).click();
  await write(two, "/title", '"Theirs"');
  await two.getByRole("button", { name: 'Change /title: "Theirs"' }).waitFor();
  await one.getByRole("textbox", { name: "Change /title" }).fill('"Mine"');
  await one.getByRole("button", { name: "Write", exact: true }).click();
  const clash = one.getByRole("alertdialog");
  await clash.getByText('"Mine"').waitFor();
  await clash.getByText('"Theirs"').waitFor();
  await assertAccessible(one, "workspaces");
  await assertNarrow(one);
  await clash.getByRole("button", { name: "Write mine" }).click();
  await two.getByRole("button", { name: 'Change /title: "Mine"' }).waitFor();
  assert.deepEqual(await state(), { title: "Mine", zoom: 3, cards: [{ id: 1, text: "one" }], "a/b~c": false });
  await two.getByRole("button", { name: "Leave", exact: true }).click();
  await one.getByRole("heading", { name: "1 client here" }).waitFor();
  assertWell(one);
  assertWell(two);
});
