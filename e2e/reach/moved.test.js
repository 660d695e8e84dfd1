/** A talk whose speaker comes from another address in the middle of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../lib/person.js";
import { Network, skip } from "./network.js";
import { onHost, startAt } from "./server.js";

/** A second of voice. */
const SECOND = 50;

const seconds = (number) => new Promise((resolve) => setTimeout(resolve, number * 1_000));

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
  await seconds(2);
  // The router forgets what it has translated to the old address, so every packet comes from another one from now on.
  route(uplinks[1]);
  router.run("ip", "link", "set", uplinks[0].farDevice, "down");
  const before = sentOver(uplinks[1]);
  await seconds(4);
  assert.ok(sentOver(uplinks[1]) - before > 100, "she comes over the other one");
  await bob.hears(alice.tone);
  const heard = await bob.watched();
  t.diagnostic(JSON.stringify(heard));
  assert.ok(heard.received > 5 * SECOND, `the talk went on: ${JSON.stringify(heard)}`);
  assert.ok(heard.lost < SECOND, `less than a second is lost: ${JSON.stringify(heard)}`);
  await alice.release();
  await bob.silence();
});
