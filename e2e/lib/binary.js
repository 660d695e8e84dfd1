/** The one binary: where it is, what it needs of its environment, and what it can tell. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** `VOICEPING_BIN`, or the newest that cargo is likely to have built. */
export function binary() {
  const { VOICEPING_BIN, CARGO_TARGET_DIR = `${root}target` } = process.env;
  const found = [VOICEPING_BIN, `${CARGO_TARGET_DIR}/debug/voiceping`, `${CARGO_TARGET_DIR}/release/voiceping`].find(
    (path) => path && existsSync(path),
  );
  if (!found) throw new Error("No voiceping binary: run `cargo build` or set VOICEPING_BIN");
  return found;
}

/** Options of `spawn` for it. */
export function environment() {
  const { VOICEPING_LOG = "info" } = process.env;
  return { cwd: root, env: { ...process.env, VOICEPING_LOG, VOICEPING_WEB_ROOT: `${root}client/web/dist` } };
}

/** It has its port; it serves a moment later, which can only be asked. */
export async function ready(url) {
  const deadline = Date.now() + 10_000;
  while (!(await fetch(`${url}/ready`)).ok) {
    if (Date.now() > deadline) throw new Error("voiceping does not become ready");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A token made by hand, with the binary's own command. */
export function makeToken(secret, ...args) {
  const env = { ...process.env, VOICEPING_JWT_SECRET: secret };
  return execFileSync(binary(), ["token", ...args], { env, encoding: "utf8" }).trim();
}

/** A secret for servers that must accept each other's tokens. */
export const secret = () => randomBytes(32).toString("hex");
