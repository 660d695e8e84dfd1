/** The gateway's own TLS: a page over it, and a certificate that is replaced under a conversation. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "node:tls";
import { binary, environment } from "../lib/binary.js";
import { Person } from "../lib/person.js";
import { start } from "../lib/process.js";

/** Which certificate is shown to who connects now. */
async function shown(url) {
  const { hostname: host, port } = new URL(url);
  const socket = connect({ host, port, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

test("a conversation over TLS outlives its certificate", { timeout: 180_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "voiceping-tls-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [certificate, key] = ["tls.crt", "tls.key"].map((name) => join(folder, name));
  const sign = () =>
    execFileSync("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
      ...["-subj", "/CN=voiceping", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
    ], { stdio: "ignore" });
  sign();
  const listen = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-announce", "127.0.0.1"];
  const tls = ["--tls-cert", certificate, "--tls-key", key];
  const server = await start(binary(), [...listen, ...tls], /VoicePing is at (https:\S+?)\/?\n/, environment());
  t.after(() => server.stop());
  const url = server.said;

  const context = { ignoreHTTPSErrors: true };
  const [alice, bob] = await Promise.all([
    Person.join(t, { url }, "Alice", { tone: 500, context }),
    Person.join(t, { url }, "Bob", { tone: 900, context }),
  ]);
  await alice.talk();
  await bob.hears(alice.tone);
  const first = await shown(url);
  let sockets = 0;
  for (const { page } of [alice, bob]) page.on("websocket", () => sockets++);
  sign();
  while ((await shown(url)) === first) await new Promise((resolve) => setTimeout(resolve, 100));
  await bob.hears(alice.tone);
  await alice.release();
  await bob.silence();
  await bob.talk();
  await alice.hears(bob.tone);
  assert.equal(sockets, 0, "nobody had to connect again");
});
