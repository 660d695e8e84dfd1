/** A network that lets nothing out but TCP. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../lib/person.js";
import { Network, skip } from "./network.js";
import { onHost, startAt, ways } from "./server.js";

test("who has only TCP talks and hears", { skip, timeout: 180_000 }, async (t) => {
  const network = new Network(t);
  const [closed, open] = [network.host(), network.host()];
  const cable = network.cable(undefined, closed);
  const other = network.cable(undefined, open);
  for (const chain of ["INPUT", "OUTPUT"]) closed.run("iptables", "-A", chain, "-p", "udp", "-j", "DROP");
  open.run("ip", "route", "add", cable.near, "dev", other.farDevice);
  const server = await startAt(t, cable.near);

  const alice = await Person.join(t, server, "Alice", { tone: 500, ...onHost(closed, server) });
  const bob = await Person.join(t, server, "Bob", { tone: 900, ...onHost(open, server) });
  const dropped = closed.run("iptables", "-nvxL", "OUTPUT").match(/^\s*(\d+).*DROP/m)[1];
  assert.ok(Number(dropped) > 0, "she has tried UDP, in vain");
  assert.deepEqual(await ways(alice), [`tcp ${cable.near}`, `tcp ${cable.near}`]);
  assert.deepEqual(await ways(bob), [`udp ${cable.near}`, `udp ${cable.near}`]);

  await t.test("she talks, and is heard without a loss", async () => {
    await bob.watch();
    await alice.talk();
    await bob.hears(alice.tone);
    await bob.page.evaluate(async () => {
      const until = 3 * 50 + (await window.ear.packets()).received;
      while ((await window.ear.packets()).received < until) await new Promise(requestAnimationFrame);
    });
    await alice.release();
    await bob.silence();
    const heard = await bob.watched();
    t.diagnostic(JSON.stringify(heard));
    assert.ok(heard.received > 100 && heard.lost === 0, JSON.stringify(heard));
  });

  await t.test("she hears", async () => {
    await bob.talk();
    await alice.hears(bob.tone);
    await bob.release();
    await alice.silence();
  });
});
