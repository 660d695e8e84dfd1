/** What goes wrong: late comers, reloads, dead pages, dead servers. Nothing of it needs a hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Person, SILENCE } from "../lib/person.js";
import { freePort, secret, startServer } from "../lib/server.js";

test("who joins in the middle of a talk hears the rest of it", { timeout: 90_000 }, async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const [alice, bob] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500 }),
    Person.open(t, server, "Bob"),
  ]);
  await alice.talk();
  await bob.signIn("lobby");
  await bob.sees("Alice is speaking");
  await bob.hears(alice.tone);
  await alice.release();
  await bob.silence();
});

test("a reload recovers, for who listens and for who speaks", { timeout: 90_000 }, async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const [alice, bob] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500 }),
    Person.join(t, server, "Bob", { tone: 900 }),
  ]);
  await alice.talk();
  await bob.hears(alice.tone);
  await bob.page.reload();
  await bob.sees("Alice is speaking");
  await bob.hears(alice.tone);

  // The speaker's own reload frees the floor, and the next press works.
  await alice.page.reload();
  await bob.phase("free");
  await bob.silence();
  await alice.ready();
  await alice.release(); // of the mouse, which is still down
  await alice.talk();
  await bob.hears(alice.tone);
  await alice.release();
  assert.equal(await bob.page.locator(".members li").count(), 2, "nobody is there twice");
});

test("a page that dies frees the floor", { timeout: 90_000 }, async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const [alice, bob] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500 }),
    Person.join(t, server, "Bob", { tone: 900 }),
  ]);
  await alice.talk();
  await bob.hears(alice.tone);
  const session = await alice.page.context().newCDPSession(alice.page);
  const crashed = alice.page.waitForEvent("crash");
  session.send("Page.crash").catch(() => {}); // a page that has died does not answer
  await crashed;
  await bob.phase("free");
  await bob.silence();
  await bob.talk();
  await bob.release();
  await bob.page.locator(".members").getByText("Alice").waitFor({ state: "detached" });
});

test("a talk that is too long is ended, and its speaker is told", { timeout: 90_000 }, async (t) => {
  const server = await startServer({ args: ["--talk-limit", "2s"] });
  t.after(() => server.stop());
  const [alice, bob] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500 }),
    Person.join(t, server, "Bob", { tone: 900 }),
  ]);
  await alice.talk();
  await bob.hears(alice.tone);
  await alice.phase("failed");
  await alice.sees("The talk reached its limit");
  await bob.phase("free");
  await bob.silence();
  // The button is still down; it is not a press any more.
  await alice.phase("free");
  assert.ok((await bob.loudest(300)) < SILENCE, "nothing goes on behind the person's back");
  await alice.release();
  await alice.talk();
  await bob.hears(alice.tone);
  await alice.release();
});

test("a restart of the server costs a moment", { timeout: 120_000 }, async (t) => {
  const args = ["--jwt-secret", secret(), "--dev-sign-in"];
  const port = await freePort();
  const first = await startServer({ port, args });
  t.after(() => first.stop());
  const [alice, bob] = await Promise.all([
    Person.join(t, first, "Alice", { tone: 500 }),
    Person.join(t, first, "Bob", { tone: 900 }),
  ]);
  await alice.talk();
  await bob.hears(alice.tone);
  assert.equal(await first.stop(), 0, "it ends in good order");
  await Promise.all([alice.phase("offline"), bob.phase("offline")]);
  await alice.release();

  const second = await startServer({ port, args });
  t.after(() => second.stop());
  await Promise.all([alice.ready(), bob.ready()]);
  assert.ok((await bob.loudest(300)) < SILENCE, "the cut talk does not go on by itself");
  await bob.talk();
  await alice.hears(bob.tone);
  await bob.release();
  await alice.silence();
});
