/** Pages in a cluster while its processes die, restart and drain. What is being heard goes on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startCluster } from "../lib/cluster.js";
import { Person } from "../lib/person.js";

/**
 * Packets come every 20 ms, to a page that shares two cores with all this: on a busy machine they are late together, by
 * half a second at worst. A path or a talk that was cut is silent for longer than this.
 */
const GAP_MS = 2_000;
const SOUND_GAP_MS = 2_000;

/** A cluster with two people: each on a gateway and a media node of their own. */
async function meet(t) {
  const cluster = await startCluster();
  t.after(() => cluster.stop());
  const [east, west] = cluster.urls;
  const [alice, bob] = await Promise.all([
    Person.join(t, { url: east }, "Alice", { tone: 500, gateways: [east, west] }),
    Person.join(t, { url: west }, "Bob", { tone: 900, gateways: [west, east] }),
  ]);
  assert.notDeepEqual(mediaPorts(alice), mediaPorts(bob), "they are on different media nodes");
  await alice.talk();
  await bob.hears(alice.tone);
  return { cluster, alice, bob };
}

/** Where a page's audio goes. */
function mediaPorts({ received }) {
  const transports = received.filter(({ type }) => type === "create-transport");
  return [...new Set(transports.flatMap(({ data }) => data.iceCandidates.map(({ port }) => port)))];
}

function assertNoGap(t, heard) {
  t.diagnostic(JSON.stringify(heard));
  assert.ok(heard.packetGap < GAP_MS, `packets went on: ${JSON.stringify(heard)}`);
  assert.ok(heard.soundGap < SOUND_GAP_MS, `sound went on: ${JSON.stringify(heard)}`);
}

/** Both can still do what they could before. */
async function assertTheyTalk(alice, bob) {
  await alice.release();
  await Promise.all([alice.phase("free"), bob.phase("free")]);
  await bob.silence();
  await bob.talk();
  await alice.hears(bob.tone);
  await bob.release();
  await alice.silence();
}

const seconds = (number) => new Promise((resolve) => setTimeout(resolve, number * 1_000));

test("the death of a gateway is not heard by its listeners", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await bob.watch();
  await cluster.gateways[1].kill();
  await bob.page.locator('.link-state[data-state="reconnecting"]').waitFor();
  await bob.phase("listening");
  await bob.resumed();
  await bob.ready();
  await seconds(1);
  assertNoGap(t, await bob.watched());
  await bob.sees("Alice is speaking");
  assert.deepEqual([bob.count("create-transport"), bob.count("consume")], [2, 1], "no new media");
  await assertTheyTalk(alice, bob);
});

test("the death of a speaker's gateway does not end the talk", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await bob.watch();
  await cluster.gateways[0].kill();
  await alice.resumed();
  // Longer than the floor would be kept for somebody who does not come back.
  await seconds(17);
  assertNoGap(t, await bob.watched());
  await alice.phase("talking");
  assert.equal(alice.count("ptt-start"), 1);
  await assertTheyTalk(alice, bob);
});

test("gateways restart one after the other, and the conversation goes on", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await bob.watch();
  for (const number of [0, 1]) {
    assert.equal(await cluster.gateways[number].stop(), 0, "it ends in good order");
    await cluster.replaceGateway(number);
    await Promise.all([alice.connected(), bob.connected()]);
  }
  await seconds(1);
  assertNoGap(t, await bob.watched());
  await alice.phase("talking");
  await bob.phase("listening");
  assert.equal(alice.count("ptt-start"), 1);
  await Promise.all([alice.resumed(), bob.resumed()]);
  await assertTheyTalk(alice, bob);
});

for (const [number, whose] of [[0, "speaker"], [1, "listener"]]) {
  test(`the death of a ${whose}'s media node is a short silence`, { timeout: 120_000 }, async (t) => {
    const { cluster, alice, bob } = await meet(t);
    const [victim, other] = number === 0 ? [alice, bob] : [bob, alice];
    const produced = victim.received.find(({ type }) => type === "produce").data.id;
    await bob.watch();
    await cluster.mediaNodes[number].kill();
    await victim.told("media-moved", ({ reason }) => reason === "node-lost");
    await victim.told("produce", ({ id }) => id !== produced);
    await victim.connected();
    await bob.hears(alice.tone);
    const heard = await bob.watched();
    t.diagnostic(`heard again after ${Math.round(heard.packetGap)} ms`);
    assert.ok(heard.packetGap < 2_000, "within two seconds");
    assert.equal(alice.count("ptt-start"), 1, "it is the same talk");
    for (const person of [victim, other]) assert.equal(person.count("join-channel"), 1, "over the same socket");
    await assertTheyTalk(alice, bob);
  });
}

test("media nodes that come back are found without a hand", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await Promise.all(cluster.mediaNodes.map((node) => node.kill()));
  const moving = '.link-state[data-state="audio-moving"]';
  await Promise.all([alice, bob].map(({ page }) => page.locator(moving).waitFor()));
  await cluster.replaceMediaNode(1);
  await Promise.all([alice.connected(), bob.connected()]);
  await alice.release();
  await alice.phase("free");
  await alice.talk();
  await bob.hears(alice.tone);
  for (const person of [alice, bob]) assert.equal(person.count("join-channel"), 1, "over the same socket");
  await assertTheyTalk(alice, bob);
});

test("a listener leaves a draining media node without a gap", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await bob.watch();
  const ended = cluster.mediaNodes[1].stop();
  // It ends when nobody is there any more, long before its deadline.
  assert.equal(await ended, 0);
  await seconds(1);
  assertNoGap(t, await bob.watched());
  assert.equal(bob.count("join-channel"), 1, "over the same socket");
  assert.equal(bob.count("create-transport"), 4);
  await assertTheyTalk(alice, bob);
});

test("a speaker leaves a draining media node after the talk", { timeout: 120_000 }, async (t) => {
  const { cluster, alice, bob } = await meet(t);
  await bob.watch();
  const ended = cluster.mediaNodes[0].stop();
  await seconds(3);
  assertNoGap(t, await bob.watched());
  assert.equal(alice.count("create-transport"), 2, "she stays while she talks");
  await alice.release();
  assert.equal(await ended, 0);
  await alice.ready();
  await alice.talk();
  await bob.hears(alice.tone);
  await assertTheyTalk(alice, bob);
});
