/** A socket is lost, and the session goes on with the next one; or it does not, and everything begins anew. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket as NodeWebSocket } from "ws";
import { Backoff } from "../src/backoff.ts";
import { connect } from "../src/client.ts";
import { heard } from "./browser.ts";
import { deploy, type Deployment } from "./gateway.ts";
import { event, join, press, state, talk, type Scene } from "./scene.ts";
import { token } from "./server.ts";

/** Cuts the socket and waits until the client has joined again. */
async function reconnect(deployment: Deployment, { client }: Scene): Promise<void> {
  const again = deployment.next("members");
  const connected = state(client, "connected");
  deployment.cut();
  await Promise.all([again, connected]);
}

test("a socket is lost, and nothing but the channel is asked for again", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const before = deployment.requests.length;
  const [tracks, ticket] = [heard("lobby"), [...deployment.tickets].at(-1)];
  await reconnect(deployment, scene);
  const since = deployment.requests.slice(before).map(({ type }) => type);
  assert.deepEqual(since, ["session", "join-channel", "members"]);
  assert.equal(deployment.requests[before]?.data.ticket, ticket);
  assert.deepEqual(heard("lobby"), tracks, "the same track goes on");
  assert.equal(scene.peers.open.length, 2);
  assert.equal(scene.lobby.state, "joined");
  assert.deepEqual(scene.lobby.members.map(({ userName }) => userName), ["Alice", "Bob"]);
});

test("a server whose state is away says so, and the ticket stays good", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const { session } = deployment.answers;
  deployment.answers["session"] = () => {
    deployment.answers["session"] = session!;
    return { type: "error", error: "The service is not available", code: "state-unavailable" };
  };
  const again = deployment.next("members");
  deployment.cut();
  await again;
  const shown = deployment.requests.filter(({ type }) => type === "session").map(({ data }) => data.ticket);
  assert.equal(shown[1], shown[2]);
  assert.equal(scene.peers.all.length, 2, "it was resumed");
});

test("each ticket is shown once, and the newest first", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  deployment.tickets.add("pushed");
  deployment.push("session", { ticket: "pushed", expiresIn: 60_000 });
  // The first attempt gets no answer: the ticket may have been used.
  const { session } = deployment.answers;
  deployment.answers["session"] = () => {
    deployment.answers["session"] = session!;
    deployment.cut();
    return undefined;
  };
  await reconnect(deployment, scene);
  const shown = deployment.requests.filter(({ type }) => type === "session").map(({ data }) => data.ticket);
  assert.equal(shown.length, 3);
  assert.deepEqual(shown.slice(0, 2), [undefined, "pushed"]);
  assert.notEqual(shown[2], "pushed");
  assert.equal(scene.peers.all.length, 2, "it was resumed");
});

test("an expired ticket is not shown", async (t) => {
  const deployment = await deploy(t);
  const { session } = deployment.answers;
  deployment.answers["session"] = (data) => {
    const answer = session!(data) as { data: object };
    return { data: { ...answer.data, expiresIn: 0 } };
  };
  const scene = await join(t, deployment);
  await reconnect(deployment, scene);
  assert.equal(deployment.requests.filter(({ type }) => type === "session").at(-1)?.data.ticket, undefined);
});

test("a talk goes on through a reconnect, while its floor is kept", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  scene.talks.length = 0;
  await reconnect(deployment, scene);
  assert.equal(scene.lobby.talk, "talking");
  assert.equal(scene.lobby.speaker?.self, true);
  assert.deepEqual(scene.talks, []);
  assert.equal(deployment.count("ptt-start"), 1);
  const stop = deployment.next("ptt-stop");
  scene.lobby.release();
  await stop;
});

test("a talk ends when its floor was lost meanwhile", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  const over = talk(scene.client, "idle");
  deployment.floor = { holder: "bob", epoch: deployment.floor.epoch + 2 };
  deployment.cut();
  assert.deepEqual(await over, { channelId: "lobby", state: "idle", end: "interrupted", message: "bob took over" });
  assert.equal(scene.lobby.speaker?.userId, "bob");
  assert.equal(scene.peers.open.length, 2);
});

test("a button that comes up while there is no socket gives the floor back on the next one", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  deployment.push("session", { ticket: "second", expiresIn: 60_000 });
  deployment.tickets.add("second");
  const unanswered = deployment.next("session");
  const { session } = deployment.answers;
  deployment.answers["session"] = () => undefined;
  deployment.cut();
  await unanswered;
  const [over, stop] = [talk(scene.client, "idle"), deployment.next("ptt-stop")];
  scene.lobby.release();
  assert.equal((await over).end, "released");
  assert.equal(deployment.count("ptt-stop"), 0);
  deployment.answers["session"] = session!;
  deployment.cut();
  await stop;
  assert.equal(deployment.floor.holder, null);
  assert.equal(scene.peers.all.length, 2, "it was resumed");
});

test("a press while there is no socket is asked for on the next one", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const away = state(scene.client, "reconnecting");
  deployment.cut();
  await away;
  const granted = talk(scene.client, "talking");
  scene.lobby.hold();
  await granted;
  assert.equal(scene.peers.all.length, 2);
});

test("a request for the floor that was lost with its socket is repeated", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const start = deployment.answers["ptt-start"]!;
  deployment.answers["ptt-start"] = (data) => {
    deployment.answers["ptt-start"] = start;
    start(data); // granted, but nobody hears of it
    deployment.cut();
    return undefined;
  };
  await press(scene);
  assert.equal(deployment.count("ptt-start"), 2);
  assert.deepEqual(scene.talks.map(({ state }) => state), ["requesting", "talking"]);
});

test("a session that is unknown begins anew", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  const over = talk(scene.client, "idle");
  deployment.tickets.clear();
  deployment.floor = { holder: null, epoch: 9 };
  const again = event(scene.client, "channel", ({ state }) => state === "joined" && scene.lobby.canTalk);
  deployment.cut();
  assert.equal((await over).end, "disconnected");
  await again;
  assert.equal(deployment.count("create-transport"), 4);
  assert.equal(scene.peers.open.length, 2);
  assert.equal(deployment.count("session"), 2, "the answer to the ticket has begun the new one");
});

test("a server without sessions is joined anew", async (t) => {
  const deployment = await deploy(t, { sessions: false });
  const scene = await join(t, deployment);
  await press(scene);
  const [over, again] = [
    talk(scene.client, "idle"),
    event(scene.client, "channel", ({ state }) => state === "joined" && scene.lobby.canTalk),
  ];
  deployment.cut();
  assert.equal((await over).end, "disconnected");
  await again;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, false, false]);
});

for (const code of [4001, 4003]) {
  test(`what the server ended with ${code} is not resumed`, async (t) => {
    const deployment = await deploy(t);
    const scene = await join(t, deployment);
    const stopped = state(scene.client, "stopped");
    deployment.cut(code);
    await stopped;
    assert.equal(scene.peers.open.length, 0);
    assert.equal(deployment.count("session"), 1);
  });
}

test("gateways are tried in turn", async (t) => {
  const deployment = await deploy(t, { gateways: 2 });
  const scene = await join(t, deployment);
  await reconnect(deployment, scene);
  await reconnect(deployment, scene);
  const joins = deployment.requests.filter(({ type }) => type === "join-channel").map(({ gateway }) => gateway);
  assert.deepEqual(joins, [0, 1, 0]);
  assert.equal(scene.peers.all.length, 2);
});

test("a server that has lost the transports meanwhile gets new ones", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  deployment.transports.clear();
  const moved = event(scene.client, "audio", ({ state }) => state === "connected");
  await reconnect(deployment, scene);
  await moved;
  assert.equal(deployment.count("create-transport"), 4);
  assert.equal(deployment.count("session"), 2);
});

test("a talk does not go on when its audio is broken too", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  const over = talk(scene.client, "idle");
  deployment.answers["session"] = () => undefined;
  const away = state(scene.client, "reconnecting");
  deployment.cut();
  await away;
  assert.equal(scene.lobby.talk, "talking");
  scene.peers.open[0]?.state("disconnected");
  assert.equal((await over).end, "disconnected");
});

test("a token is used until it is refused or about to expire", async (t) => {
  const deployment = await deploy(t);
  let asked = 0;
  const client = connect(deployment.urls[0]!, async () => (asked++, token()), {
    WebSocket: NodeWebSocket as unknown as typeof WebSocket,
    backoff: new Backoff(1, 5),
    microphone: false,
  });
  t.after(() => client.close());
  await state(client, "connected");
  const again = state(client, "connected");
  deployment.cut();
  await again;
  assert.equal(asked, 1);
});
