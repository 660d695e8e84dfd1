/** Firefox and Chromium on one channel, both ways: another DTLS stack, SRTP profile, payload type and extension ids. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import puppeteer from "puppeteer-core";
import { Person } from "../lib/person.js";
import { startServer } from "../lib/server.js";

const firefox = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"].find((path) => path && existsSync(path));
/** Firefox takes no loopback candidates; packets to another address of this machine stay on it all the same. */
const address = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal);
const skip =
  (!firefox && "Firefox is not installed (apt-get install firefox-esr, or set FIREFOX)") ||
  (!address && "this machine has only its loopback address, which Firefox refuses");

/** Firefox's own fake microphone hums at this pitch. */
const HUM = 1000;

test("Firefox and Chromium hear each other", { skip, timeout: 120_000 }, async (t) => {
  const server = await startServer({ mediaAddress: address.address });
  t.after(() => server.stop());
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefox,
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.permission.disabled": true,
      "media.navigator.streams.fake": true,
      "media.navigator.audio.fake_frequency": HUM,
      "media.autoplay.default": 0,
    },
  });
  t.after(() => browser.close());
  const carl = await Person.join(t, server, "Carl", { tone: 600 });

  const fiona = await browser.newPage();
  fiona.setDefaultTimeout(20_000);
  await fiona.goto(server.url);
  const name = await fiona.waitForSelector("#name");
  await name.type("Fiona");
  await (await fiona.waitForSelector("button.primary")).click();
  const phase = (phase) => fiona.waitForSelector(`.stage[data-phase="${phase}"]`);
  await phase("free");
  await fiona.waitForSelector('.link-state[data-state="connected"]');

  await t.test("Firefox speaks, Chromium hears", async () => {
    await fiona.keyboard.down(" ");
    await phase("talking");
    await carl.sees("Fiona is speaking");
    await carl.hears(HUM);
    assert.equal(await fiona.evaluate(record, HUM), 0, "Fiona does not hear herself");
    await fiona.keyboard.up(" ");
    await phase("free");
    await carl.silence();
  });

  await t.test("Chromium speaks, Firefox hears", async () => {
    await carl.talk();
    await phase("listening");
    const share = await fiona.evaluate(record, carl.tone);
    assert.ok(share > 0.7, `what Fiona hears is Carl's tone: ${share}`);
    await carl.release();
    await phase("free");
  });
});

/**
 * In the page: records what it hears for a second and tells how much of its energy is at one pitch; 0 for silence. Not
 * the live analyser that serves Chromium, because Firefox's runs only where there is a sound card.
 */
async function record(pitch) {
  const recorder = new MediaRecorder(document.querySelector("audio").srcObject);
  const recorded = new Promise((resolve) => (recorder.ondataavailable = ({ data }) => resolve(data)));
  recorder.start();
  setTimeout(() => recorder.stop(), 1_000);
  const bytes = await (await recorded).arrayBuffer();
  const heard = await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(bytes);
  const samples = heard.getChannelData(0);
  let [total, atPitch] = [0, 0];
  // In short pieces: a jitter buffer that stretches time shifts the phase, and a long sum would cancel out.
  for (let from = 0; from + 2_400 <= samples.length; from += 2_400) {
    let [cosine, sine] = [0, 0];
    for (let i = from; i < from + 2_400; i++) {
      const angle = (2 * Math.PI * pitch * i) / heard.sampleRate;
      total += samples[i] ** 2;
      cosine += samples[i] * Math.cos(angle);
      sine += samples[i] * Math.sin(angle);
    }
    atPitch += (2 * (cosine ** 2 + sine ** 2)) / 2_400;
  }
  return total < 1e-6 ? 0 : atPitch / total;
}
