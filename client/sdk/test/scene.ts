/** A client that has joined a channel of a scripted deployment, hears it and can talk. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { WebSocket as NodeWebSocket } from "ws";
import { Backoff } from "../src/backoff.ts";
import type { Channel } from "../src/channel.ts";
import { connect, type VoiceClient } from "../src/client.ts";
import type { Events } from "../src/events.ts";
import { FakePeers, heard, microphone } from "./browser.ts";
import type { Deployment } from "./gateway.ts";
import { token } from "./server.ts";

export interface Scene {
  client: VoiceClient;
  lobby: Channel;
  peers: FakePeers;
  talks: Events["talk"][];
}

/** The first event that passes. */
export function event<K extends keyof Events>(client: VoiceClient, type: K, passes: (event: Events[K]) => boolean): Promise<Events[K]> {
  return new Promise((resolve) => {
    const off = client.on(type, (event) => {
      if (!passes(event)) return;
      off();
      resolve(event);
    });
  });
}

export const state = (client: VoiceClient, state: Events["connection"]["state"]): Promise<unknown> =>
  event(client, "connection", (event) => event.state === state);
export const talk = (client: VoiceClient, state: Events["talk"]["state"]): Promise<Events["talk"]> =>
  event(client, "talk", (event) => event.state === state);

/** A client on a channel, that hears it and can talk. */
export async function join(t: TestContext, deployment: Deployment): Promise<Scene> {
  const peers = new FakePeers();
  const [url = "", ...urls] = deployment.urls;
  const client = connect(url, token(), {
    WebSocket: NodeWebSocket as unknown as typeof WebSocket,
    backoff: new Backoff(1, 5),
    microphone,
    device: peers.device,
    urls,
  });
  t.after(() => client.close());
  const talks: Events["talk"][] = [];
  client.on("talk", (event) => talks.push(event));
  const lobby = client.join("lobby");
  await event(client, "channel", () => lobby.canTalk);
  assert.equal(heard("lobby").length, 1);
  return { client, lobby, peers, talks };
}

export async function press({ client, lobby }: Scene): Promise<void> {
  const granted = talk(client, "talking");
  lobby.hold();
  await granted;
}
