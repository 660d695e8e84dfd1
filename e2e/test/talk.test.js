/** A conversation: who presses is heard by all others, and by nobody else. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Person, SILENCE } from "../lib/person.js";
import { startServer } from "../lib/server.js";

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

test("three people take turns", { timeout: 120_000 }, async (t) => {
  const [alice, bob, carol] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500 }),
    Person.join(t, server, "Bob", { tone: 900 }),
    Person.join(t, server, "Carol", { tone: 1400 }),
  ]);

  await t.test("everybody is on the list", async () => {
    for (const { page } of [alice, bob, carol]) {
      for (const name of ["Alice", "Bob", "Carol"]) await page.locator(".members").getByText(name).waitFor();
    }
  });

  await t.test("a tone is heard by the others and not by its speaker", async () => {
    await alice.talk();
    await Promise.all([bob.hears(alice.tone), carol.hears(alice.tone)]);
    await Promise.all([bob.sees("Alice is speaking"), carol.sees("Alice is speaking")]);
    assert.ok((await alice.loudest(500)) < SILENCE, "Alice does not hear herself");
    await Promise.all([alice.picture("desktop-talking"), bob.picture("desktop-listening")]);
  });

  await t.test("who presses second is told who speaks", async () => {
    await bob.press();
    await bob.phase("denied");
    await bob.sees("Alice is speaking");
    await bob.picture("desktop-denied");
    const denial = bob.received.find(({ type }) => type === "ptt-denied");
    assert.equal(denial.error, "Alice is speaking");
    assert.equal(denial.data.denied, true);
    assert.equal(denial.data.currentSpeakerName, "Alice");
    await bob.release();
    await carol.hears(alice.tone);
    await carol.sees("Alice is speaking");
  });

  await t.test("a release is silence", async () => {
    await alice.release();
    await Promise.all([bob.phase("free"), carol.phase("free"), alice.phase("free")]);
    await Promise.all([bob.silence(), carol.silence()]);
    const loudest = await Promise.all([alice, bob, carol].map((person) => person.loudest(500)));
    assert.ok(Math.max(...loudest) < SILENCE, `silent: ${loudest}`);
  });

  await t.test("the next speaker needs no negotiation", async () => {
    const requests = [alice, bob, carol].map(({ sent }) => sent.length);
    await bob.talk();
    await Promise.all([alice.hears(bob.tone), carol.hears(bob.tone)]);
    await bob.release();
    await Promise.all([alice, bob, carol].map((person) => person.phase("free")));
    await carol.talk();
    await Promise.all([alice.hears(carol.tone), bob.hears(carol.tone)]);
    await carol.release();
    await Promise.all([alice, bob, carol].map((person) => person.phase("free")));
    const since = [alice, bob, carol].flatMap(({ sent }, i) => sent.slice(requests[i]).map(({ type }) => type));
    const other = since.filter((type) => !["ptt-start", "ptt-stop", "ping"].includes(type));
    assert.deepEqual(other, [], "nothing but presses went to the server");
    for (const person of [alice, bob, carol]) assert.equal(person.count("consume"), 1, `${person.name} consumed once`);
  });

  await t.test("the talks are in the log, newest first", async () => {
    const names = await alice.page.locator(".talks .who").evaluateAll((rows) => rows.map((row) => row.firstChild.data));
    assert.deepEqual(names, ["Carol", "Bob", "You"]);
    assert.match(await alice.page.locator(".talks .length").first().innerText(), /^\d+\.\d s$/);
  });
});

test("channels do not hear each other, and one page carries several", { timeout: 120_000 }, async (t) => {
  const [dana, eve] = await Promise.all([
    Person.join(t, server, "Dana", { tone: 700, channels: "east, west" }),
    Person.join(t, server, "Eve", { tone: 1100, channels: "west, east" }),
  ]);
  // Each talks on its first channel.
  await dana.talk();
  await eve.hears(dana.tone, "east");
  assert.ok((await eve.loudest(400, "west")) < SILENCE, "west is silent");
  // Both directions at once, on two channels.
  await eve.talk();
  await dana.hears(eve.tone, "west");
  assert.ok((await dana.loudest(400, "east")) < SILENCE, "Dana does not hear herself");
  await eve.hears(dana.tone, "east");
  await Promise.all([dana.release(), eve.release()]);
  await Promise.all([dana.silence("west"), eve.silence("east")]);

  // A muted channel costs no traffic.
  await eve.page.getByRole("button", { name: "Mute east" }).click();
  await dana.talk();
  await eve.page.locator('[data-channel="east"]').getByText("Dana speaks").waitFor();
  await eve.silence("east"); // the mute and the talk reach the server by two ways
  assert.ok((await eve.loudest(500, "east")) < SILENCE, "muted");
  await eve.page.getByRole("button", { name: "Mute east" }).click();
  await eve.hears(dana.tone, "east");
  await dana.release();
  await eve.silence("east");

  // And on the other one, after a choice.
  await dana.page.locator('[data-channel="west"] .select').click();
  await dana.talk();
  await eve.hears(dana.tone, "west");
  await dana.release();
  await eve.silence("west");
});

test("channels are joined and left while others talk", { timeout: 90_000 }, async (t) => {
  const [max, mia] = await Promise.all([
    Person.join(t, server, "Max", { tone: 700, channels: "red" }),
    Person.join(t, server, "Mia", { tone: 1100, channels: "red" }),
  ]);
  await max.talk();
  await mia.hears(max.tone, "red");
  await mia.page.getByLabel("Channel to join").fill("blue");
  await mia.page.keyboard.press("Enter");
  await mia.page.locator('[data-channel="blue"]').getByText("Only you").waitFor();
  await mia.hears(max.tone, "red");
  await mia.page.getByRole("button", { name: "Leave red" }).click();
  await max.page.locator(".members").getByText("Mia").waitFor({ state: "detached" });
  await mia.phase("free");
  await max.release();
  // On the same connection, she speaks where she is now and is not heard where she was.
  await mia.talk();
  assert.ok((await max.loudest(400, "red")) < SILENCE, "red is silent");
  await mia.release();
  await mia.page.getByLabel("Channel to join").fill("red");
  await mia.page.keyboard.press("Enter");
  await mia.page.locator('[data-channel="red"]').getByText("2 people").waitFor();
  await mia.page.locator('[data-channel="red"] .select').click();
  await mia.talk();
  await max.hears(mia.tone, "red");
  await mia.release();
});
