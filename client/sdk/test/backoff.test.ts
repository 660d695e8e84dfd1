import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.ts";

test("delays double up to the cap and begin again after a reset", () => {
  const backoff = new Backoff(500, 15_000, () => 1);
  assert.deepEqual(Array.from({ length: 7 }, () => backoff.next()), [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("half of a delay is random, so that clients spread", () => {
  assert.equal(new Backoff(1_000, 15_000, () => 0).next(), 500);
  const delays = new Set(Array.from({ length: 50 }, () => new Backoff(1_000).next()));
  assert.ok(delays.size > 10, "jitter");
  for (const delay of delays) assert.ok(delay >= 500 && delay <= 1_000, String(delay));
});

test("what the server asked for comes on top", () => {
  assert.equal(new Backoff(1_000, 15_000, () => 0).next(5_000), 5_500);
});
