/** The audio moves to another media node, or away from a path that has failed; the socket stays. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Events } from "../src/events.ts";
import { heard } from "./browser.ts";
import { deploy, type Deployment } from "./gateway.ts";
import { event, join, press, talk, type Scene } from "./scene.ts";

const audio = ({ client }: Scene, state: Events["audio"]["state"]): Promise<unknown> =>
  event(client, "audio", (event) => event.state === state);

/** Both transports of a new path are as far as they come without being connected. */
async function newPath(deployment: Deployment): Promise<void> {
  await deployment.next("connect-transport");
  await deployment.next("connect-transport");
}

test("a lost node costs new transports, and neither the socket nor the talk", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  const [before] = heard("lobby");
  scene.talks.length = 0;
  const [moving, moved] = [audio(scene, "moving"), audio(scene, "connected")];
  deployment.push("media-moved", { reason: "node-lost" });
  await moving;
  await moved;
  await scene.peers.all[1]?.gone;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, false, false]);
  const [after, ...others] = heard("lobby");
  assert.equal(others.length, 0);
  assert.notEqual(after, before);
  assert.equal(scene.lobby.talk, "talking");
  assert.deepEqual(scene.talks, []);
  const types = ["session", "join-channel", "create-transport", "consume", "produce", "ptt-start"];
  assert.deepEqual(types.map(deployment.count), [1, 1, 4, 2, 2, 1]);
});

test("a draining node is left when the new one delivers, not before", async (t) => {
  const deployment = await deploy(t);
  deployment.floor = { holder: "bob", epoch: 5 };
  const scene = await join(t, deployment);
  const before = heard("lobby");
  scene.peers.receiving = false;
  const consumed = deployment.next("consume");
  const moved = audio(scene, "connected");
  deployment.push("media-moved", { reason: "draining" });
  await consumed;
  await deployment.next("produce");
  assert.deepEqual(heard("lobby"), before);
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [false, false, false, false]);
  scene.peers.receiving = true;
  await moved;
  assert.notDeepEqual(heard("lobby"), before);
  assert.equal(heard("lobby").length, 1);
  await scene.peers.all[1]?.gone;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, false, false]);
});

test("a draining node is left after the talk", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  deployment.push("media-moved", { reason: "draining" });
  const carol = { action: "user-joined", userId: "carol", userName: "Carol", userCount: 3 };
  deployment.push("channel-state", { channelId: "lobby", ...carol, epoch: 0 });
  await event(scene.client, "members", ({ members }) => members.length === 3); // the push before has arrived too
  assert.equal(scene.peers.all.length, 2);
  const [over, moved] = [talk(scene.client, "idle"), audio(scene, "connected")];
  scene.lobby.release();
  assert.equal((await over).end, "released");
  await moved;
  await scene.peers.all[1]?.gone;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, false, false]);
});

test("a talk that begins during a move is carried by both paths", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  scene.peers.connecting = false;
  const made = newPath(deployment);
  deployment.push("media-moved", { reason: "draining" });
  await made;
  await press(scene);
  const moved = audio(scene, "connected");
  for (const peer of scene.peers.all.slice(2)) peer.state("connected");
  await moved;
  assert.equal(scene.peers.open.length, 4);
  const over = talk(scene.client, "idle");
  scene.lobby.release();
  await over;
  await scene.peers.all[1]?.gone;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, false, false]);
});

test("a node that is lost while it is being left is left at once", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  scene.peers.connecting = false;
  const made = newPath(deployment);
  deployment.push("media-moved", { reason: "draining" });
  await made;
  scene.peers.connecting = true;
  const moved = audio(scene, "connected");
  deployment.push("media-moved", { reason: "node-lost" });
  await moved;
  await scene.peers.all[1]?.gone;
  assert.deepEqual(scene.peers.all.map(({ closed }) => closed), [true, true, true, true, false, false]);
});

test("a new node that cannot be had is asked for again", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const create = deployment.answers["create-transport"]!;
  deployment.answers["create-transport"] = () => {
    deployment.answers["create-transport"] = create;
    return { type: "error", error: "No media node answers", code: "media-unavailable" };
  };
  const moved = audio(scene, "connected");
  deployment.push("media-moved", { reason: "node-lost" });
  await moved;
  await scene.peers.all[1]?.gone;
  assert.equal(heard("lobby").length, 1);
  assert.equal(scene.peers.open.length, 2);
  assert.equal(deployment.count("session"), 1);
});

test("a channel whose audio is refused at first is joined all the same", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const { consume } = deployment.answers;
  deployment.answers["consume"] = () => {
    deployment.answers["consume"] = consume!;
    return { type: "error", error: "No media node has room", code: "no-media-node" };
  };
  const other = scene.client.join("other");
  await event(scene.client, "channel", ({ channelId }) => channelId === "other" && other.canTalk);
  assert.equal(heard("other").length, 1);
});

test("a path that fails without a word is replaced", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  for (const broken of ["failed", "disconnected"] as const) {
    const count = scene.peers.all.length;
    const moved = audio(scene, "connected");
    scene.peers.open[0]?.state(broken);
    await moved;
    await scene.peers.all[count - 1]?.gone;
    assert.equal(scene.peers.all.length, count + 2);
    assert.equal(scene.peers.open.length, 2);
  }
  assert.equal(deployment.count("session"), 1);
});

test("a path that comes back on its own is kept", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const [interrupted, back] = [audio(scene, "interrupted"), audio(scene, "connected")];
  scene.peers.open[0]?.state("disconnected");
  await interrupted;
  scene.peers.open[0]?.state("connected");
  await back;
  assert.equal(scene.peers.all.length, 2);
});

test("a new way is looked for over the same transports first", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  await press(scene);
  const asked = deployment.next("restart-ice");
  const pinged = deployment.next("ping");
  const [interrupted, back] = [audio(scene, "interrupted"), audio(scene, "connected")];
  scene.peers.open[0]?.state("disconnected");
  await interrupted;
  await Promise.all([asked, pinged]);
  // As browsers do: it looks, and finds.
  scene.peers.open[0]?.state("connecting");
  scene.peers.open[0]?.state("connected");
  await back;
  assert.equal(scene.peers.all.length, 2);
  assert.equal(deployment.count("restart-ice"), 2, "one for each direction, once");
  assert.equal(scene.lobby.talk, "talking");
});

test("a channel that is joined during a move is heard on the new path", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  scene.peers.connecting = false;
  const made = newPath(deployment);
  deployment.push("media-moved", { reason: "node-lost" });
  await made;
  const other = scene.client.join("other");
  const joined = event(scene.client, "channel", ({ channelId }) => channelId === "other" && other.canTalk);
  for (const peer of scene.peers.all.slice(2)) peer.state("connected");
  await joined;
  await scene.peers.all[1]?.gone;
  assert.equal(heard("other").length, 1);
  assert.equal(scene.peers.open.length, 2);
});

test("a muted channel is muted on the new path as well", async (t) => {
  const deployment = await deploy(t);
  const scene = await join(t, deployment);
  const first = deployment.next("pause-consumer");
  scene.lobby.muted = true;
  const paused = [await first];
  const second = deployment.next("pause-consumer");
  deployment.push("media-moved", { reason: "node-lost" });
  paused.push(await second);
  assert.equal(new Set(paused.map(({ data }) => data.consumerId)).size, 2);
  assert.deepEqual(heard("lobby"), []);
});
