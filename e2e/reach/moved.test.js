/** A talk whose speaker comes from another address in the middle of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../lib/person.js";
import { Network, skip } from "./network.js";
import { onHost, startAt } from "./server.js";

/** A second of voice. */
const SECOND = 50;

/** Waits until a speaker has sent as much more, whether it arrives or not. */
async function speaks(speaker, packets) {
  await speaker.page.evaluate(async (packets) => {
    const until = packets + (await window.ear.sent());
    while ((await window.ear.sent()) < until) await new Promise(requestAnimationFrame);
  }, packets);
}

/** How many packets the speaker has sent and the listener has got, give or take what is on its way. */
async function count(speaker, listener) {
  const [sent, { received }] = await Promise.all([
    speaker.page.evaluate(() => window.ear.sent()),
    listener.page.evaluate(() => window.ear.packets()),
  ]);
  return { sent, received };
}

test("behind a router that changes its uplink, a talk goes on", { skip, timeout: 180_000 }, async (t) => {
  const network = new Network(t);
  const [home, router, elsewhere] = [network.host(), network.host(), network.host()];
  // The server's address belongs to neither uplink.
  const { near: address } = network.cable(undefined, elsewhere);
  const inside = network.cable(router, home);
  const uplinks = [network.cable(undefined, router), network.cable(undefined, router)];
  home.run("ip", "route", "add", "default", "via", inside.near);
  router.run("sysctl", "-qw", "net.ipv4.ip_forward=1");
  for (const { farDevice } of uplinks) router.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", farDevice, "-j", "MASQUERADE");
  const route = ({ near }) => router.run("ip", "route", "replace", address, "via", near);
  const sentOver = ({ farDevice }) => Number(router.run("cat", `/sys/class/net/${farDevice}/statistics/tx_packets`));
  route(uplinks[0]);
  const server = await startAt(t, address);
  const alice = await Person.join(t, server, "Alice", { tone: 500, ...onHost(home, server) });
  const bob = await Person.join(t, server, "Bob", { tone: 900, ...onHost(undefined, server) });

  await bob.watch();
  await alice.talk();
  await bob.hears(alice.tone);
  const begin = await count(alice, bob);
  await speaks(alice, 2 * SECOND);
  // The router forgets what it has translated to the old address, so every packet comes from another one from now on.
  route(uplinks[1]);
  router.run("ip", "link", "set", uplinks[0].farDevice, "down");
  const before = sentOver(uplinks[1]);
  await speaks(alice, 4 * SECOND);
  assert.ok(sentOver(uplinks[1]) - before > 100, "she comes over the other one");
  await bob.hears(alice.tone);
  const end = await count(alice, bob);
  const [sent, received] = [end.sent - begin.sent, end.received - begin.received];
  t.diagnostic(JSON.stringify({ sent, received, ...(await bob.watched()) }));
  assert.ok(sent > 5 * SECOND, "the talk went on");
  assert.ok(sent - received < SECOND, `less than a second of ${sent} packets is lost: ${received} have come`);
  await alice.release();
  await bob.silence();
});

test("a phone that goes from one network to another keeps its talk", { skip, timeout: 180_000 }, async (t) => {
  const network = new Network(t);
  const [phone, elsewhere] = [network.host(), network.host()];
  const { near: address } = network.cable(undefined, elsewhere);
  const [wifi, mobile] = [network.cable(undefined, phone), network.cable(undefined, phone)];
  const route = ({ near, farDevice }) => phone.run("ip", "route", "replace", "default", "via", near, "dev", farDevice);
  route(wifi);
  const server = await startAt(t, address);
  const alice = await Person.join(t, server, "Alice", { tone: 500, ...onHost(phone, server) });
  const bob = await Person.join(t, server, "Bob", { tone: 900, ...onHost(undefined, server) });

  await bob.watch();
  await alice.talk();
  await bob.hears(alice.tone);
  await speaks(alice, 2 * SECOND);
  phone.run("ip", "link", "set", wifi.farDevice, "down");
  phone.run("ip", "addr", "flush", "dev", wifi.farDevice);
  route(mobile);
  await alice.resumed();
  await bob.hears(alice.tone);
  await speaks(alice, 2 * SECOND);
  const heard = await bob.watched();
  t.diagnostic(JSON.stringify(heard));
  assert.equal(alice.count("ptt-start"), 1, "it is the same talk");
  assert.equal(alice.count("create-transport"), 2, "over the same transports");
  assert.equal(bob.received.filter(({ type, data }) => type === "speaker-changed" && data.isBusy).length, 1);
  await alice.release();
  await bob.silence();
});

test("a way that has stopped working is replaced by another to the same transports", { skip, timeout: 180_000 }, async (t) => {
  const network = new Network(t);
  const host = network.host();
  const { near: address } = network.cable(undefined, host);
  const server = await startAt(t, address, ["--media-tcp-port", "off"]);
  const alice = await Person.join(t, server, "Alice", { tone: 500, ...onHost(host, server) });
  const bob = await Person.join(t, server, "Bob", { tone: 900, ...onHost(undefined, server) });
  // What she uses now is blocked, both ways, and nothing else.
  const ports = host.run("ss", "-Huan").matchAll(/:(\d+)\s+\S+\s*$/gm);
  for (const port of new Set([...ports].map(([, port]) => port))) {
    host.run("iptables", "-A", "OUTPUT", "-p", "udp", "--sport", port, "-j", "DROP");
    host.run("iptables", "-A", "INPUT", "-p", "udp", "--dport", port, "-j", "DROP");
  }
  await alice.told("restart-ice");
  await alice.connected();
  assert.equal(alice.count("create-transport"), 2, "over the same transports");
  for (const [speaker, listener] of [
    [alice, bob],
    [bob, alice],
  ]) {
    await speaker.talk();
    await listener.hears(speaker.tone);
    await speaker.release();
    await listener.silence();
  }
});
