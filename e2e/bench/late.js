/**
 * What a client hears of a talk's beginning that consumes only when it is told that somebody speaks, as existing clients
 * do: with the talk's first second replayed (`--media-replay 1s`) and without (`0s`), one after the other in Chromium. Prints
 * the figures; asserts nothing. `TALKS` are held in each of `ROUNDS` rounds.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openBrowser } from "../lib/person.js";
import { startServer } from "../lib/server.js";
import { measure } from "./late-page.js";

const { ROUNDS = "3", TALKS = "12" } = process.env;

const cleanUp = [];
const context = { after: (end) => cleanUp.unshift(end) };
try {
  const browser = await openBrowser(context);
  const results = {};
  for (let round = 0; round < Number(ROUNDS); round++) {
    for (const replay of ["0s", "1s"]) {
      const server = await startServer({ args: ["--media-replay", replay] });
      try {
        (results[replay] ??= []).push(...(await measureOn(server, browser)));
      } finally {
        await server.stop();
      }
    }
  }
  report(results);
} finally {
  for (const end of cleanUp) await end();
}

async function measureOn(server, browser) {
  const session = await browser.newContext({ bypassCSP: true });
  try {
    const page = await session.newPage();
    await page.goto(`${server.url}/live`);
    return await page.evaluate(measure, {
      code: readFileSync(new URL("../../client/sdk/dist/voiceping.js", import.meta.url), "utf8"),
      url: `${server.url.replace(/^http/, "ws")}/ws`,
      tokens: await Promise.all(["Mouth", "Late"].map((name) => signIn(server, name))),
      talks: Number(TALKS),
    });
  } finally {
    await session.close();
  }
}

async function signIn(server, userName) {
  const response = await fetch(`${server.url}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userName, channels: ["bench"] }),
  });
  return (await response.json()).token;
}

function report(results) {
  console.log("a client that consumes when somebody speaks        " + Object.keys(results).map((name) => name.padStart(9)).join(" "));
  const line = (name, value) =>
    console.log(name.padEnd(50), Object.values(results).map((talks) => String(value(talks)).padStart(9)).join(" "));
  const mean = (talks, of) => (talks.reduce((sum, talk) => sum + of(talk), 0) / talks.length).toFixed(2);
  line("talks", (talks) => talks.length);
  line("of the first 300 ms, heard", (talks) => mean(talks, ({ heard }) => heard.filter((at) => at < 10).length / 10));
  line("of the first second, heard", (talks) => mean(talks, ({ heard }) => heard.length / 33));
  line("talks whose first 300 ms are whole (9 of 10)", (talks) =>
    mean(talks, ({ heard }) => (heard.filter((at) => at < 10).length >= 9 ? 1 : 0)));
  for (const q of [0.5, 0.95]) {
    line(`first sound after it was said, ms, p${100 * q}`, (talks) => quantile(talks.map(({ first }) => first), q).toFixed(0));
    line(`lag at the end of the talk, ms, p${100 * q}`, (talks) => quantile(talks.map(({ lag }) => lag), q).toFixed(0));
    line(`push to ready to hear, ms, p${100 * q}`, (talks) => quantile(talks.map(({ ready }) => ready), q).toFixed(0));
  }
  const out = new URL("../out/", import.meta.url);
  mkdirSync(out, { recursive: true });
  writeFileSync(new URL("late.json", out), JSON.stringify(results, null, 1));
}

function quantile(values, q) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
