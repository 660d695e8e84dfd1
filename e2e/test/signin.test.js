/** Ways in: by name where the server allows it, by token everywhere. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Person } from "../lib/person.js";
import { makeToken, secret, startServer } from "../lib/server.js";

const key = secret();
let server;
before(async () => (server = await startServer({ args: ["--jwt-secret", key] })));
after(() => server?.stop());

const anna = () => makeToken(key, "--user", "anna", "--name", "Anna", "--channel", "north", "--channel", "south");

test("a token in the address joins the channels that it names", { timeout: 60_000 }, async (t) => {
  const person = await Person.open(t, server, "Anna", { path: `/#token=${anna()}` });
  await person.ready();
  assert.equal(new URL(person.page.url()).hash, "", "the token is out of the address");
  await person.page.locator(".me").getByText("Anna").waitFor();
  assert.deepEqual(await channels(person), ["north", "south"]);
  await person.talk();
  await person.release();
  await person.page.reload();
  await person.ready();
  assert.deepEqual(await channels(person), ["north", "south"], "a reload needs no second token");
});

test("a token can be typed, and gives no more than it names", { timeout: 60_000 }, async (t) => {
  const { page, ...person } = await Person.open(t, server, "Anna");
  assert.equal(await page.getByLabel("Your name").count(), 0, "there is no sign-in by name");
  await page.screenshot({ path: new URL("../out/desktop-token.png", import.meta.url).pathname });
  await page.getByLabel("Token").fill(anna());
  await page.getByLabel("Channels").fill("north, secret");
  await page.getByRole("button", { name: "Join" }).click();
  await page.locator('[data-channel="north"]').getByText("Only you").waitFor();
  await page.locator('[data-channel="secret"]').getByText("Permission denied: Not authorized for this channel").waitFor();
  assert.equal(person.sent.filter(({ type }) => type === "join-channel").length, 2, "it does not insist");
  await page.getByRole("button", { name: "Leave", exact: true }).click();
  await page.getByLabel("Token").waitFor();
});

test("a token that is refused ends at the sign-in, with the reason", { timeout: 60_000 }, async (t) => {
  const forged = makeToken(secret(), "--user", "m", "--name", "Mallory", "--channel", "north");
  const { page } = await Person.open(t, server, "Mallory", { path: `/#token=${forged}` });
  await page.getByRole("alert").getByText("Unauthorized: Invalid or expired token").waitFor();
  await page.reload();
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0, "a reload does not try it again");
});

test("a token that runs out ends the session, with the reason", { timeout: 60_000 }, async (t) => {
  const short = makeToken(key, "--user", "tim", "--name", "Tim", "--channel", "north", "--ttl", "5s");
  const person = await Person.open(t, server, "Tim", { path: `/#token=${short}` });
  await person.ready();
  await person.page.getByRole("alert").getByText("The token has expired").waitFor();
});

function channels({ page }) {
  return page.locator(".channels .who").evaluateAll((rows) => rows.map((row) => row.firstChild.data));
}
