// Measures with clients that recover: all come back at once after a cut, or each by itself through a restart.

import { Follower } from "./follower.mjs";
import { quantiles } from "./measures.mjs";

const PATIENCE = 30_000;
let followers = [];

const sum = (name) => followers.reduce((total, one) => total + one[name], 0);
const COUNTS = ["seen", "lost", "repeated", "disordered", "recovered", "joins", "failures"];
const report = () => Object.fromEntries(COUNTS.map((name) => [name, sum(name)]));

async function joinAll(concurrency) {
  const waiting = [...followers];
  const one = async () => { while (waiting.length) await waiting.pop().join(); };
  await Promise.all(Array.from({ length: concurrency }, one));
}

export async function follow({ port, count, concurrency = 20, reconnects = false }) {
  followers = Array.from({ length: count }, (_, place) => new Follower(port, place, { reconnects }));
  await joinAll(concurrency);
  return { recoverable: followers.every((one) => one.pid !== undefined) };
}

export async function cut() {
  await Promise.all(followers.map((one) => one.cut()));
  return {};
}

// Have all come back to `port`, and wait until each has joined and seen `missed` more events.
export async function recover({ port, missed, concurrency = 50 }) {
  const took = [], began = performance.now(), before = sum("recovered");
  const all = new Promise((resolve) => {
    for (const one of followers) {
      const { seen, joins } = one;
      Object.assign(one, { port, started: null, changed: () => {
        if (one.seen < seen + missed || one.joins === joins || one.done) return;
        one.done = true;
        took.push(performance.now() - began);
        if (took.length === followers.length) resolve();
      } });
    }
  });
  const deadline = new Promise((resolve) => setTimeout(resolve, PATIENCE).unref());
  await Promise.race([Promise.all([joinAll(concurrency), all]), deadline]);
  const seconds = (performance.now() - began) / 1000;
  return { ...report(), whole: took.length, clients: followers.length, recovered: sum("recovered") - before, seconds, ...quantiles(took) };
}

// What the followers have seen since the last call; `longest` is the longest silence of any of them, in ms.
export async function silences({ until }) {
  const deadline = performance.now() + PATIENCE;
  while (until !== undefined && followers.some((one) => one.highest + 1 !== until) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const answer = { ...report(), ...quantiles(followers.map((one) => one.silence)) };
  for (const one of followers) one.silence = 0;
  return answer;
}

export async function unfollow() {
  await Promise.all(followers.map((one) => one.stop()));
  followers = [];
  return {};
}
