/** The button under every kind of hand: mouse, finger, space bar, both modes; and how it looks on a phone. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { devices } from "playwright-core";
import { Person } from "../lib/person.js";
import { startServer } from "../lib/server.js";

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

test("a finger holds the button on a phone, and nothing else happens", { timeout: 90_000 }, async (t) => {
  const { defaultBrowserType: _, ...phone } = devices["Pixel 7"];
  const person = await Person.join(t, server, "Finn", { context: { ...phone, colorScheme: "dark" }, channels: "touch" });
  const { page } = person;
  await person.picture("phone-free");
  const box = await page.locator(".talk").boundingBox();
  assert.ok(box.width >= 200, "large enough for a thumb");
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const touch = await page.context().newCDPSession(page);
  const finger = (type, points) => touch.send("Input.dispatchTouchEvent", { type, touchPoints: points });
  await finger("touchStart", [{ x, y }]);
  await person.phase("talking");
  await person.picture("phone-talking");
  // It slides off the button, and still holds it.
  await finger("touchMove", [{ x: x + box.width, y: y + box.height }]);
  assert.equal(await page.locator(".stage").getAttribute("data-phase"), "talking");
  assert.equal(await page.evaluate(() => String(getSelection())), "", "no text is selected");
  assert.equal(await page.evaluate(() => scrollY), 0, "nothing scrolls");
  await finger("touchEnd", []);
  await person.phase("free");
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(width[0] <= width[1], `no sideways scrolling: ${width}`);
});

test("the space bar", { timeout: 90_000 }, async (t) => {
  const person = await Person.join(t, server, "Sam", { channels: "keys" });
  const { page } = person;

  await t.test("talks while it is down", async () => {
    await page.keyboard.down("Space");
    await person.phase("talking");
    await page.keyboard.down("Space"); // as a keyboard repeats
    await page.keyboard.up("Space");
    await person.phase("free");
    assert.equal(person.count("ptt-start"), 1);
  });

  await t.test("types where it should type", async () => {
    await page.getByLabel("Channel to join").focus();
    await page.keyboard.press("Space");
    assert.equal(await page.getByLabel("Channel to join").inputValue(), " ");
    assert.equal(person.count("ptt-start"), 1);
    await page.getByLabel("Channel to join").fill("");
    await page.locator("body").click({ position: { x: 5, y: 5 } });
  });

  await t.test("a window that loses the focus lets go", async () => {
    await page.keyboard.down("Space");
    await person.phase("talking");
    await page.evaluate(() => dispatchEvent(new Event("blur")));
    await person.phase("free");
    await page.keyboard.up("Space");
  });

  await t.test("toggles in the other mode, which is remembered", async () => {
    await page.getByLabel("Toggle").check();
    await page.keyboard.press("Space");
    await person.phase("talking");
    await page.keyboard.press("Space");
    await person.phase("free");
    await page.locator(".talk").click();
    await person.phase("talking");
    await page.locator(".talk").click();
    await person.phase("free");
    await page.reload();
    await person.ready();
    assert.ok(await page.getByLabel("Toggle").isChecked());
  });
});

test("without a microphone a page listens, and says so", { timeout: 90_000 }, async (t) => {
  const person = await Person.open(t, server, "Lena");
  await person.page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("No", "NotAllowedError"));
  });
  await person.page.reload();
  await person.signIn("touch");
  await person.phase("mute");
  await person.page.getByText("The microphone is blocked. You can listen.").waitFor();
  const speaker = await Person.join(t, server, "Sol", { tone: 800, channels: "touch" });
  await speaker.talk();
  await person.hears(speaker.tone, "touch");
  await speaker.release();
  await person.press();
  await person.phase("failed");
  await person.release();
  await person.picture("desktop-listen-only");
});
