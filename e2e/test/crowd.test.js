/** More people on a channel than a list can name: the page shows how many, and who speaks. */
import { after, before, test } from "node:test";
import { Person } from "../lib/person.js";
import { startServer } from "../lib/server.js";

/** With Alice and Bob above the hundred to which names are told. */
const CROWD = 99;

let server;
before(async () => (server = await startServer({ args: ["--connect-burst", "1000"] })));
after(() => server?.stop());

test("a crowd comes, hears, and goes", { timeout: 120_000 }, async (t) => {
  const [alice, bob] = [await Person.join(t, server, "Alice"), await Person.join(t, server, "Bob")];
  const count = (person, number) => person.page.locator(".panel:has(.members) .count").getByText(String(number), { exact: true }).waitFor();
  const line = ({ page }) => page.getByText("Names are shown for up to 100 people.");
  const named = ({ page }, name) => page.locator(".members").getByText(name);

  await t.test("the page shows their number instead of their names", async () => {
    await alice.page.evaluate(come, CROWD);
    for (const person of [alice, bob]) {
      await count(person, CROWD + 2);
      await line(person).waitFor();
      await named(person, "Alice").waitFor({ state: "detached" });
    }
  });

  await t.test("and who speaks", async () => {
    await alice.talk();
    await bob.sees("Alice is speaking");
    await bob.hears(alice.tone);
    await named(bob, "Alice").waitFor();
    await bob.picture("crowd");
    await alice.release();
    await named(bob, "Alice").waitFor({ state: "detached" });
  });

  await t.test("who remains is named again", async () => {
    await alice.page.evaluate(() => window.crowd.forEach((socket) => socket.close(1000)));
    for (const person of [alice, bob]) {
      await count(person, 2);
      await line(person).waitFor({ state: "hidden" });
      for (const name of ["Alice", "Bob"]) await named(person, name).waitFor();
    }
  });
});

/** In the page: so many others, each with a WebSocket and nothing else. */
async function come(number) {
  const join = async (at) => {
    const answer = await fetch("dev/token", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ userName: `Guest ${at}` }),
    });
    const { token } = await answer.json();
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`, ["voiceping", token]);
    await new Promise((opened) => (socket.onopen = opened));
    const joined = new Promise((resolve) => {
      socket.onmessage = ({ data }) => JSON.parse(data).id === "1" && resolve();
    });
    socket.send(JSON.stringify({ type: "join-channel", id: "1", data: { channelId: "lobby" } }));
    await joined;
    return socket;
  };
  window.crowd = await Promise.all(Array.from({ length: number }, (_, at) => join(at)));
}
