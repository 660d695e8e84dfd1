// A conversation over the cluster of docker-compose.yml, in real browsers, while its parts are added and taken away. Run by
// containers.sh, which has started it; uses the people of the browser tests (e2e/).
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import { promisify } from "node:util";
import { Person } from "../../e2e/lib/person.js";

const server = { url: "https://localhost:8443" };
const options = { context: { ignoreHTTPSErrors: true } };

const run = async (command, ...args) => (await promisify(execFile)(command, args)).stdout.trim();
const compose = (...args) => run(process.env.COMPOSE, ...args);
const podman = (...args) => run("podman", ...args);

/** The containers of a service that run, by name. */
async function containers(service) {
  const label = (key, value) => ["--filter", `label=com.docker.compose.${key}=${value}`];
  const names = await podman("ps", "--format", "{{.Names}}", ...label("project", "voiceping"), ...label("service", service));
  return names.split("\n").filter(Boolean).sort();
}

/** How many sockets each gateway has. */
async function sockets() {
  const entries = (await containers("gateway")).map(async (name) => {
    const address = await podman("inspect", name, "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    return [name, (await (await fetch(`http://${address}:3000/health`)).json()).connections];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** What Prometheus answers now. */
async function asked(query) {
  const answer = await fetch(`http://127.0.0.1:9090/api/v1/query?query=${encodeURIComponent(query)}`);
  return (await answer.json()).data.result;
}

/** The type of the answer to a Binding request (RFC 8489). */
async function stunAnswer(host, port) {
  const socket = createSocket("udp4");
  const request = Buffer.concat([Buffer.from([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]), randomBytes(12)]);
  try {
    const answer = once(socket, "message", { signal: AbortSignal.timeout(10_000) });
    socket.send(request, port, host);
    const [message] = await answer;
    return message.readUInt16BE(0);
  } finally {
    socket.close();
  }
}

async function until(what, holds) {
  for (let tries = 0; tries < 150; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(what);
}

/** The talk is over, heard and seen: whoever presses next is not too early. */
const over = (...people) => Promise.all(people.flatMap((person) => [person.silence(), person.phase("free")]));

test("a conversation over a cluster in containers", { timeout: 300_000 }, async (t) => {
  const alice = await Person.join(t, server, "Alice", { tone: 500, ...options });
  const bob = await Person.join(t, server, "Bob", { tone: 900, ...options });

  await t.test("the proxy has put them on two gateways", async () => {
    assert.deepEqual(Object.values(await sockets()), [1, 1]);
  });

  await t.test("each hears the other", async () => {
    await alice.talk();
    await bob.hears(alice.tone);
    await bob.sees("Alice is speaking");
    await alice.release();
    await over(alice, bob);
    await bob.talk();
    await alice.hears(bob.tone);
    await bob.release();
    await over(alice, bob);
  });

  await t.test("a third gateway is found without a change of the proxy", async (t) => {
    await compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "gateway=3", "gateway");
    await until("three gateways run", async () => (await containers("gateway")).length === 3);
    await until("the new one is ready", async () => Object.keys(await sockets()).length === 3);
    const carol = await Person.join(t, server, "Carol", { tone: 1400, ...options });
    assert.deepEqual(Object.values(await sockets()), [1, 1, 1]);
    await carol.talk();
    await Promise.all([alice, bob].map((person) => person.hears(carol.tone)));
    await carol.release();
    await over(alice, bob, carol);
    await until("Prometheus reads it, too", async () => (await asked('up{job="voiceping"} == 1')).length === 5);
  });

  await t.test("Prometheus has seen the talks, and no alert is due", async () => {
    const roles = (await asked("voiceping_ready")).map(({ metric }) => metric.role).sort();
    assert.deepEqual(roles, ["gateway", "gateway", "gateway", "media-node", "media-node"]);
    const [granted] = await asked('sum(voiceping_floor_requests_total{outcome="granted"})');
    assert.equal(granted.value[1], "3");
    assert.deepEqual(await asked('ALERTS{alertstate="firing",severity="critical"}'), []);
  });

  await t.test("the TURN server answers", async () => {
    assert.equal(await stunAnswer("127.0.0.1", 3478), 0x0101);
  });

  await t.test("a gateway that is stopped hands its people over, and exits in order", async () => {
    const before = await sockets();
    const gone = Object.keys(before).find((name) => before[name] > 0);
    await podman("stop", "--time", "20", gone);
    assert.equal(await podman("inspect", gone, "--format", "{{.State.ExitCode}}"), "0");
    await until("both are elsewhere", async () => {
      const counts = Object.values(await sockets());
      return counts.reduce((sum, count) => sum + count, 0) === 2;
    });
    await Promise.all([alice.ready(), bob.ready()]);
    await alice.talk();
    await bob.hears(alice.tone);
  });

  await t.test("a media node that is stopped under a talk moves it to the other, and back", async () => {
    // One after the other: one of them carries the channel.
    for (const node of ["media-node-a", "media-node-b"]) {
      const [name] = await containers(node);
      await podman("stop", "--time", "40", name);
      assert.equal(await podman("inspect", name, "--format", "{{.State.ExitCode}}"), "0");
      await bob.phase("listening");
      await bob.hears(alice.tone);
      await podman("start", name);
      const registered = () => podman("exec", "voiceping-redis-1", "redis-cli", "hlen", "voiceping:{nodes}:nodes");
      await until(`${node} is registered again`, async () => (await registered()) === "2");
    }
    await alice.release();
    await over(alice, bob);
    await bob.talk();
    await alice.hears(bob.tone);
    await bob.release();
  });
});
