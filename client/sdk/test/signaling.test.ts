import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket as NodeWebSocket } from "ws";
import { RequestError } from "../src/errors.ts";
import { Signaling } from "../src/signaling.ts";
import { answering, serve, token } from "./server.ts";

const options = { WebSocket: NodeWebSocket as unknown as typeof WebSocket };
const opened = (signaling: Signaling): Promise<void> => new Promise((resolve) => (signaling.onopen = resolve));
const joined = { channelId: "c1", userCount: 1 };

test("the token travels as a subprotocol", async (t) => {
  const server = await serve(t, () => {});
  const signaling = new Signaling(server.url, "a.b.c", options);
  await opened(signaling);
  assert.deepEqual(server.offered, [["voiceping", "a.b.c"]]);
});

test("answers find their requests in any order, and pushes go elsewhere", async (t) => {
  const server = await serve(t, (socket) => {
    socket.send(JSON.stringify({ type: "channel-list", data: { channels: ["c1"], role: "GENERAL" } }));
    const waiting: { type: string; id: string }[] = [];
    answering(socket, (request) => {
      waiting.push(request);
      if (waiting.length < 2) return undefined;
      const [first, second] = waiting;
      socket.send(JSON.stringify({ type: second!.type, id: second!.id, data: { success: true } }));
      return { type: first!.type, id: first!.id, data: joined };
    });
  });
  const signaling = new Signaling(server.url, "t", options);
  const pushed = new Promise((resolve) => (signaling.onpush = (type, data) => resolve({ type, data })));
  await opened(signaling);
  const [join, leave] = await Promise.all([
    signaling.request("join-channel", { channelId: "c1" }),
    signaling.request("leave-channel", { channelId: "c2" }),
  ]);
  assert.deepEqual(join, joined);
  assert.deepEqual(leave, { success: true });
  assert.deepEqual(await pushed, { type: "channel-list", data: { channels: ["c1"], role: "GENERAL" } });
});

test("a denial is a refusal however it is told", async (t) => {
  const data = { success: false, denied: true, channelId: "c1", currentSpeakerName: "Bob", message: "Bob is speaking" };
  const denials = [
    { type: "ptt-denied", error: "Bob is speaking", data },
    { type: "ptt-denied", data },
    { type: "ptt-start", data },
    { type: "ptt-start", error: "Bob is speaking", data: {} },
    { type: "error", error: "Bob is speaking", code: "denied" },
  ];
  let next = 0;
  const server = await serve(t, (socket) => answering(socket, ({ id }) => ({ ...denials[next++], id })));
  const signaling = new Signaling(server.url, "t", options);
  await opened(signaling);
  for (const _ of denials) {
    await assert.rejects(signaling.request("ptt-start", { channelId: "c1" }), {
      name: "RequestError",
      message: "Bob is speaking",
    });
  }
});

test("an error brings its code", async (t) => {
  const server = await serve(t, (socket) =>
    answering(socket, ({ id }) => ({ type: "error", id, error: "Channel is full", code: "channel_full" })),
  );
  const signaling = new Signaling(server.url, "t", options);
  await opened(signaling);
  await assert.rejects(signaling.request("join-channel", { channelId: "c1" }), (error: RequestError) => {
    assert.equal(error.message, "Channel is full");
    assert.equal(error.code, "channel_full");
    return true;
  });
});

test("a request that is not answered fails in time", async (t) => {
  const server = await serve(t, () => {});
  const signaling = new Signaling(server.url, "t", { ...options, requestTimeoutMs: 20 });
  await opened(signaling);
  await assert.rejects(signaling.request("join-channel", { channelId: "c1" }), { code: "timeout" });
});

test("requests in flight fail when the socket ends, and so do later ones", async (t) => {
  const server = await serve(t, (socket) => socket.on("message", () => socket.close(1012, "restart")));
  const signaling = new Signaling(server.url, "t", options);
  await opened(signaling);
  await assert.rejects(signaling.request("join-channel", { channelId: "c1" }), { code: "disconnected" });
  assert.equal((await signaling.ended).code, "lost");
  await assert.rejects(signaling.request("join-channel", { channelId: "c1" }), { code: "disconnected" });
});

test("a server that is silent is found out by the heartbeat", async (t) => {
  const server = await serve(t, () => {});
  const end = await new Signaling(server.url, "t", { ...options, pingIntervalMs: 20 }).ended;
  assert.equal(end.code, "lost");
  assert.equal(end.final, false);
});

test("close codes tell what is final", async (t) => {
  for (const [code, reason, expected, final] of [
    [4001, "", "unauthorized", true],
    [4003, "Spam", "removed", true],
    [1012, "", "lost", false],
    [1001, "", "lost", false],
    [1000, "", "lost", false],
  ] as const) {
    const server = await serve(t, (socket) => socket.close(code, reason));
    const end = await new Signaling(server.url, "t", options).ended;
    assert.equal(end.code, expected, `close ${code}`);
    assert.equal(end.final, final, `close ${code}`);
    if (reason) assert.equal(end.message, reason);
  }
});

test("a refused handshake is explained by plain HTTP", async (t) => {
  for (const [status, body, expected, final] of [
    [401, "Unauthorized: Invalid or expired token", "unauthorized", true],
    [403, "Account is suspended", "suspended", true],
    [503, "Service unavailable", "busy", false],
  ] as const) {
    const server = await serve(
      t,
      () => {},
      (request, response) => {
        assert.equal(request.headers.authorization, "Bearer a.b.c");
        response.writeHead(status, { "retry-after": "7" }).end(body);
      },
    );
    const end = await new Signaling(server.url, "a.b.c", options).ended;
    assert.equal(end.code, expected);
    assert.equal(end.message, body);
    assert.equal(end.final, final);
    if (status === 503) assert.equal(end.retryAfterMs, 7_000);
  }
});

test("a server that is not there is a lost connection", async () => {
  const end = await new Signaling(`ws://127.0.0.1:1/ws`, token(), options).ended;
  assert.equal(end.code, "lost");
});
