/** Through coturn only, with credentials from the gateway: TURN over UDP and over TCP, and none of it after they have ended. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { Person } from "../lib/person.js";
import { freePort, start } from "../lib/process.js";
import { startAt } from "./server.js";

const SECRET = "north-of-the-wall-south-of-the-river";
const OLD_SECRET = "the-secret-of-last-month-and-before";

/** Debian's coturn on this machine, with the secret that it shares with gateways, and an older one. */
async function startTurn(t) {
  const port = await freePort();
  const turn = await start(
    "turnserver",
    [
      ...["-n", "--log-file", "stdout", "--simple-log", "--no-cli", "--no-tls", "--no-dtls", "--fingerprint"],
      ...["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", String(port)],
      ...["--realm", "voiceping", "--use-auth-secret", "--allow-loopback-peers", "--no-multicast-peers"],
      ...["--static-auth-secret", SECRET, "--static-auth-secret", OLD_SECRET],
    ],
    /Total General servers/,
  );
  t.after(() => turn.stop());
  return { ...turn, url: (transport) => `turn:127.0.0.1:${port}?transport=${transport}` };
}

/** A page whose connections take no way but a relay. */
const RELAY_ONLY = () => {
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(config) {
      super({ ...config, iceTransportPolicy: "relay" });
    }
  };
};

async function join(t, server, name, tone) {
  const person = await Person.open(t, server, name, { tone });
  await person.page.addInitScript(RELAY_ONLY);
  await person.page.reload();
  await person.signIn("lobby");
  await person.ready();
  return person;
}

/** The kinds of the client's own ends in use. */
const ownEnds = (person) => person.page.evaluate(() => window.ear.ownEnds());

for (const transport of ["udp", "tcp"]) {
  test(`who has only a relay over ${transport} talks and hears`, { timeout: 180_000 }, async (t) => {
    const turn = await startTurn(t);
    const server = await startAt(t, "127.0.0.1", ["--turn-urls", turn.url(transport), "--turn-secret", SECRET]);
    const alice = await join(t, server, "Alice", 500);
    const bob = await join(t, server, "Bob", 900);
    for (const person of [alice, bob]) {
      assert.deepEqual(await ownEnds(person), [`relay ${transport}`, `relay ${transport}`]);
    }
    await alice.talk();
    await bob.hears(alice.tone);
    await alice.release();
    await bob.silence();
    await bob.talk();
    await alice.hears(bob.tone);
    await bob.release();
  });
}

test("credentials that have ended are refused, and what a client has made of them", { timeout: 180_000 }, async (t) => {
  const turn = await startTurn(t);
  const args = ["--turn-urls", turn.url("udp"), "--turn-ttl", "20s", "--turn-secret", SECRET];
  const server = await startAt(t, "127.0.0.1", args);
  const person = await Person.join(t, server, "Alice");
  const created = person.received.find(({ type }) => type === "create-transport");
  const [given] = created.data.iceServers;
  const [end, user] = given.username.split(":");
  assert.ok(user && Number(end) > 0, given.username);

  /** What a browser gets of the server with these credentials. */
  const gathered = (credentials) =>
    person.page.evaluate(async (iceServer) => {
      const connection = new RTCPeerConnection({ iceServers: [iceServer], iceTransportPolicy: "relay" });
      connection.createDataChannel("x");
      const found = { relays: 0, errors: [] };
      const complete = new Promise((resolve) => {
        connection.onicecandidate = ({ candidate }) => {
          if (!candidate) resolve();
          else if (candidate.type === "relay") found.relays++;
        };
      });
      connection.onicecandidateerror = ({ errorCode }) => found.errors.push(errorCode);
      await connection.setLocalDescription();
      await complete;
      connection.close();
      return found;
    }, credentials);

  const good = await gathered(given);
  assert.ok(good.relays > 0, JSON.stringify(good));
  // While the secret is replaced, the server knows the one before as well.
  const credential = createHmac("sha1", OLD_SECRET).update(given.username).digest("base64");
  const old = await gathered({ ...given, credential });
  assert.ok(old.relays > 0, JSON.stringify(old));
  // A time that the user has written itself.
  const forged = await gathered({ ...given, username: `${Number(end) + 3600}:${user}` });
  assert.ok(forged.relays === 0 && forged.errors.includes(401), JSON.stringify(forged));
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, (Number(end) + 2) * 1_000 - Date.now())));
  const late = await gathered(given);
  assert.ok(late.relays === 0 && late.errors.includes(401), JSON.stringify(late));
});

test("a client is told of no servers where there are none", { timeout: 60_000 }, async (t) => {
  const server = await startAt(t, "127.0.0.1");
  const person = await Person.join(t, server, "Alice");
  const created = person.received.find(({ type }) => type === "create-transport");
  assert.equal(created.data.iceServers, undefined);
});
