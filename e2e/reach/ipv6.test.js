/** A network that has IPv6 and nothing else. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../lib/person.js";
import { Network, skip } from "./network.js";
import { onHost, startAt, ways } from "./server.js";

test("over IPv6 alone, people talk and hear", { skip, timeout: 180_000 }, async (t) => {
  const network = new Network(t);
  const host = network.host();
  const cable = network.cable(undefined, host, { v6: true });
  assert.equal(host.run("ip", "-4", "route"), "", "there is no IPv4");
  const server = await startAt(t, cable.near);
  const [alice, bob] = await Promise.all([
    Person.join(t, server, "Alice", { tone: 500, ...onHost(host, server) }),
    Person.join(t, server, "Bob", { tone: 900, ...onHost(host, server) }),
  ]);
  assert.deepEqual(await ways(alice), [`udp ${cable.near}`, `udp ${cable.near}`]);
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
