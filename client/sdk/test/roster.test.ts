import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Backoff } from "../src/backoff.ts";
import type { Member, Pushes } from "../src/protocol.ts";
import { CROWD, Roster } from "../src/roster.ts";
import { deploy } from "./gateway.ts";
import { event, join } from "./scene.ts";

const DELAY_MS = 2_000;

interface Answer {
  members: Member[];
  userCount?: number;
  complete?: boolean;
}

interface Scene {
  roster: Roster;
  /** The questions; each waits for its answer. */
  asked: { answer: (names: string[], more?: Partial<Answer>) => Promise<void>; fail: () => Promise<void> }[];
  tell(action: Pushes["channel-state"]["action"], userId: string, userCount: number, merged?: boolean): void;
  pass(ms: number): Promise<void>;
  names(): string;
}

const member = (userId: string): Member => ({ userId, userName: userId });
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

function scene(t: TestContext): Scene {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked: Scene["asked"] = [];
  const request = (): Promise<Answer & { channelId: string }> =>
    new Promise((resolve, reject) =>
      asked.push({
        answer: (names, more) => (resolve({ channelId: "c", members: names.map(member), ...more }), settled()),
        fail: () => (reject(new Error("no connection")), settled()),
      }),
    );
  const roster = new Roster(member("me"), request, () => {}, new Backoff(DELAY_MS, 60_000, () => 1));
  return {
    roster,
    asked,
    tell: (action, userId, userCount, merged) => {
      const floor = { channelId: "c", currentSpeaker: null, speakerName: null, isBusy: false, lockTimestamp: null, epoch: 1 };
      roster.changed({ ...floor, action, ...member(userId), userCount, ...(merged && { merged }) });
    },
    pass: (ms) => (t.mock.timers.tick(ms), settled()),
    names: () => roster.members.map(({ userName }) => userName).join(" "),
  };
}

test("names come with the join, and each coming and going after it", async (t) => {
  const { roster, asked, tell, pass, names } = scene(t);
  const joined = roster.joined(2);
  await asked[0]!.answer(["me", "ann"]);
  await joined;
  assert.deepEqual([names(), roster.complete], ["ann me", true]);
  tell("user-joined", "bob", 3);
  tell("user-left", "ann", 2);
  tell("user-left", "me", 2); // not we: another device of ours
  assert.deepEqual([names(), roster.userCount, roster.complete], ["bob me", 2, true]);
  await pass(10 * DELAY_MS);
  assert.equal(asked.length, 1);
});

test("what happens while the answer is on its way is not lost to it", async (t) => {
  const { roster, asked, tell, names } = scene(t);
  void roster.joined(3);
  tell("user-joined", "bob", 4);
  tell("user-left", "cem", 3);
  await asked[0]!.answer(["me", "ann", "cem"]);
  assert.deepEqual([names(), roster.userCount, roster.complete], ["ann bob me", 3, true]);
});

test("of a crowd nobody is asked for and nobody is kept", async (t) => {
  const { roster, asked, tell, pass, names } = scene(t);
  await roster.joined(CROWD + 1);
  tell("user-joined", "bob", CROWD + 2);
  await pass(10 * DELAY_MS);
  assert.deepEqual([names(), roster.userCount, roster.complete, asked.length], ["", CROWD + 2, false, 0]);
});

test("names are dropped when a crowd comes, and asked for once when it has gone", async (t) => {
  const { roster, asked, tell, pass, names } = scene(t);
  void roster.joined(CROWD);
  const all = Array.from({ length: CROWD - 1 }, (_, at) => `u${at}`);
  await asked[0]!.answer(["me", ...all]);
  assert.ok(roster.complete);
  tell("user-joined", "bob", CROWD + 1);
  assert.deepEqual([names(), roster.complete], ["", false]);
  tell("user-left", "bob", 3, true);
  tell("user-left", "cem", 2);
  await pass(DELAY_MS - 1);
  assert.equal(asked.length, 1);
  await pass(1);
  assert.equal(asked.length, 2);
  await asked[1]!.answer(["me", "ann"], { userCount: 2, complete: true });
  assert.deepEqual([names(), roster.complete], ["ann me", true]);
  await pass(10 * DELAY_MS);
  assert.equal(asked.length, 2);
});

test("names that were merged away are asked for, although their number is right", async (t) => {
  const { roster, asked, tell, pass, names } = scene(t);
  void roster.joined(3);
  await asked[0]!.answer(["me", "ann", "bob"]);
  tell("user-left", "bob", 2, true); // cem came and ann left before
  assert.deepEqual([names(), roster.complete], ["ann me", false]);
  await pass(DELAY_MS);
  await asked[1]!.answer(["me", "cem"]);
  assert.deepEqual([names(), roster.complete], ["cem me", true]);
});

test("a push behind an answer that knew of it is no reason to ask again", async (t) => {
  const { roster, asked, tell, pass } = scene(t);
  void roster.joined(2);
  tell("user-joined", "bob", 3);
  await asked[0]!.answer(["me", "ann", "bob", "cem"]);
  assert.equal(roster.complete, false); // of cem nothing has been said
  tell("user-joined", "cem", 4);
  assert.ok(roster.complete);
  await pass(10 * DELAY_MS);
  assert.equal(asked.length, 1);
});

test("a server that knows of a crowd before its push comes names nobody", async (t) => {
  const { roster, asked, names } = scene(t);
  void roster.joined(CROWD);
  await asked[0]!.answer([], { userCount: CROWD + 1, complete: false });
  assert.deepEqual([names(), roster.userCount, roster.complete], ["", CROWD + 1, false]);
});

test("a question that fails is asked again, later and later", async (t) => {
  const { roster, asked, tell, pass } = scene(t);
  void roster.joined(2);
  await asked[0]!.answer(["me", "ann"]);
  tell("user-left", "bob", 1, true);
  for (const [at, wait] of [DELAY_MS, 2 * DELAY_MS, 4 * DELAY_MS].entries()) {
    await pass(wait - 1);
    assert.equal(asked.length, 1 + at);
    await pass(1);
    await asked[1 + at]!.fail();
  }
  roster.close();
  await pass(100 * DELAY_MS);
  assert.equal(asked.length, 4);
});

test("an answer to an earlier join is none", async (t) => {
  const { roster, asked, names } = scene(t);
  void roster.joined(2);
  roster.close();
  void roster.joined(2);
  await asked[1]!.answer(["me", "bob"]);
  await asked[0]!.answer(["me", "ann"]);
  assert.equal(names(), "bob me");
});

test("a channel with a crowd is joined without a question, and named when few are left", async (t) => {
  const deployment = await deploy(t);
  const answer = deployment.answers["join-channel"]!({}) as { data: object };
  deployment.answers["join-channel"] = () => ({ data: { ...answer.data, userCount: 5_000 } });
  const { client, lobby } = await join(t, deployment);
  assert.deepEqual([lobby.userCount, lobby.members, lobby.membersComplete], [5_000, [], false]);
  assert.equal(deployment.count("members"), 0);
  const named = event(client, "members", ({ complete }) => complete);
  const gone = { action: "user-left", userId: "cem", userName: "Cem", userCount: 2 };
  deployment.push("channel-state", { channelId: "lobby", ...gone, epoch: 1 });
  assert.deepEqual((await named).members.map(({ userName }) => userName), ["Alice", "Bob"]);
  assert.equal(deployment.count("members"), 1);
});
