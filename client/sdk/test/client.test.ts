import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { WebSocket as NodeWebSocket } from "ws";
import { Backoff } from "../src/backoff.ts";
import { connect, type TokenSource, type VoiceClient } from "../src/client.ts";
import type { Events } from "../src/events.ts";
import { serve, token } from "./server.ts";

/** A client without microphone whose waits are short; joins nothing, so it needs no browser. */
function client(t: TestContext, url: string, source: TokenSource = token()): VoiceClient {
  const client = connect(url, source, {
    WebSocket: NodeWebSocket as unknown as typeof WebSocket,
    microphone: false,
    backoff: new Backoff(1, 5),
  });
  t.after(() => client.close());
  return client;
}

/** The first event of this kind that passes. */
function event<K extends keyof Events>(
  client: VoiceClient,
  type: K,
  passes: (event: Events[K]) => boolean = () => true,
): Promise<Events[K]> {
  return new Promise((resolve) => {
    const off = client.on(type, (event) => {
      if (!passes(event)) return;
      off();
      resolve(event);
    });
  });
}

test("comes back after a drain, again and again", async (t) => {
  let sockets = 0;
  const server = await serve(t, (socket) => {
    if (++sockets < 4) socket.close(1012);
    else socket.send(JSON.stringify({ type: "channel-list", data: { channels: ["a"], role: "GENERAL" } }));
  });
  const voice = client(t, server.url);
  const waiting = await event(voice, "connection", ({ state }) => state === "reconnecting");
  assert.equal(waiting.reason?.code, "lost");
  assert.equal(typeof waiting.retryInMs, "number");
  assert.deepEqual(await event(voice, "channels"), { channels: ["a"], role: "GENERAL" });
  assert.equal(sockets, 4);
  assert.equal(voice.state, "connected");
  assert.deepEqual(voice.self, { userId: "alice", userName: "Alice" });
});

test("comes back when the socket is cut without a word", async (t) => {
  let sockets = 0;
  const server = await serve(t, (socket) => void (++sockets === 1 && socket.terminate()));
  const voice = client(t, server.url);
  await event(voice, "connection", ({ state }) => state === "reconnecting");
  await event(voice, "connection", ({ state }) => state === "connected");
  assert.equal(sockets, 2);
});

for (const [code, expected] of [[4001, "unauthorized"], [4003, "removed"]] as const) {
  test(`stops on close ${code}`, async (t) => {
    let sockets = 0;
    const server = await serve(t, (socket) => {
      sockets++;
      socket.close(code, "because");
    });
    const { reason } = await event(client(t, server.url), "connection", ({ state }) => state === "stopped");
    assert.equal(reason?.code, expected);
    assert.equal(sockets, 1);
  });
}

test("stops when the token is refused, with the server's words", async (t) => {
  const server = await serve(t, () => {}, (_, response) => response.writeHead(401).end("Unauthorized: Invalid or expired token"));
  const { reason } = await event(client(t, server.url), "connection", ({ state }) => state === "stopped");
  assert.deepEqual(reason, { code: "unauthorized", message: "Unauthorized: Invalid or expired token" });
});

test("stops at once on what is not a token", async (t) => {
  const voice = client(t, "ws://127.0.0.1:1/ws", "nonsense");
  const { reason } = await event(voice, "connection", ({ state }) => state === "stopped");
  assert.equal(reason?.code, "unauthorized");
});

test("a source of tokens is asked for a fresh one, once", async (t) => {
  let asked = 0;
  const server = await serve(t, (socket) => socket.close(4001));
  const voice = client(t, server.url, async () => (asked++, token()));
  await event(voice, "connection", ({ state }) => state === "stopped");
  assert.equal(asked, 2);
});

test("a token that ends is replaced on the open socket", async (t) => {
  let refreshed: (token: string) => void = () => {};
  const newer = new Promise<string>((resolve) => (refreshed = resolve));
  let [sockets, asked] = [0, 0];
  const server = await serve(t, (socket) => {
    sockets++;
    socket.on("message", (text) => {
      const { type, id, data } = JSON.parse(String(text)) as { type: string; id: string; data: { token: string } };
      if (type === "refresh-token") refreshed(data.token);
      socket.send(JSON.stringify({ type, id, data: {} }));
      if (type === "session") socket.send(JSON.stringify({ type: "token-expiring", data: { expiresIn: 60_000 } }));
    });
  });
  const tokens = [token("alice", "Alice"), token("alice", "Alice of the second")];
  client(t, server.url, async () => tokens[asked++]!);
  assert.equal(await newer, tokens[1]);
  assert.deepEqual([sockets, asked], [1, 2]);
});

test("close is final and quiet", async (t) => {
  let closed = 0;
  const server = await serve(t, (socket) => socket.on("close", () => closed++));
  const voice = client(t, server.url);
  await event(voice, "connection", ({ state }) => state === "connected");
  const stopped = event(voice, "connection", ({ state }) => state === "stopped");
  voice.close();
  assert.equal((await stopped).reason?.code, "closed");
});
