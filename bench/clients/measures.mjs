// What the generator does on request. Each returns what it saw, as an object.

import { Connection, tally } from "./connection.mjs";
import { Upgrading } from "./polling.mjs";

const groups = new Map();
let places = 0;
const group = (name = "main") => groups.get(name) ?? groups.set(name, []).get(name);

export async function open({ port, count, concurrency = 20, mode = "websocket", name, namespace, auth }) {
  const made = group(name);
  const began = performance.now();
  let left = count;
  const one = async () => {
    while (left-- > 0) {
      const client = new (mode === "polling" ? Upgrading : Connection)(port, places++, namespace, auth);
      await (mode === "bare" ? client.openBare() : client.open());
      made.push(client);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, one));
  return { connections: made.length, seconds: (performance.now() - began) / 1000 };
}

// Close all but `keep`, a few at a time.
export async function close({ name, keep = 0 }) {
  const leaving = group(name).splice(keep);
  while (leaving.length) await Promise.all(leaving.splice(-50).map((client) => client.close()));
  return { connections: group(name).length };
}

export async function drop({ name }) {
  await Promise.all(group(name).splice(0).map((client) => client.drop()));
  return {};
}

// `publisher` asks its server for `burst` events, and again when all have come, `times` times.
export async function broadcast({ times, burst, size, local = false, name, publisher, event = "broadcast" }) {
  const clients = group(name), [first] = group(publisher ?? name);
  const began = performance.now();
  for (let time = 0; time < times; time++) {
    const all = wait(burst * clients.length);
    await first.call(event, burst, size, 0, local);
    await all;
  }
  return { deliveries: times * burst * clients.length, events: times * burst, seconds: (performance.now() - began) / 1000 };
}

// Resolves when `events` more have come.
function wait(events) {
  if (events === 0) return Promise.resolve();
  return new Promise((resolve) => {
    tally.events = 0;
    tally.wanted = events;
    tally.enough = () => { tally.wanted = Infinity; resolve(); };
  });
}

// Each client has one question in flight, `times` after each other.
// `pause`, in ms, is the mean time between an answer and the next question; without it, there is none.
export async function ack({ times, name, pause = 0 }) {
  const clients = group(name), waits = [];
  const began = performance.now();
  await Promise.all(clients.map((client) => new Promise((resolve) => {
    let left = times, asked;
    const next = () => {
      if (asked !== undefined) waits.push(performance.now() - asked);
      if (left-- === 0) return resolve();
      if (pause) setTimeout(ask, pause * 2 * Math.random());
      else ask();
    };
    const ask = () => {
      asked = performance.now();
      client.emit("ack", ',"twenty bytes of text"', next);
    };
    next();
  })));
  return { acks: waits.length, seconds: (performance.now() - began) / 1000, ...quantiles(waits) };
}

// The same with whatever frame a client sends and gets.
export async function echo({ times, name }) {
  const clients = group(name);
  tally.seen = (data, client) => client.socket.send('42/bench,0["ack","twenty bytes of text"]');
  const all = wait(times * clients.length);
  for (const client of clients) tally.seen(null, client);
  await all;
  tally.seen = null;
  const last = wait(clients.length);
  await last;
  return { acks: (times + 1) * clients.length };
}

let expecting;
export async function expect({ events }) {
  expecting = wait(events);
  return {};
}

export async function expected() {
  await expecting;
  return {};
}

// Events at a steady rate, each stamped when it is asked for.
export async function rate({ rate, seconds, size, name, publisher, event = "broadcast", local = false }) {
  const clients = group(name), [first] = group(publisher ?? name), waits = [];
  tally.seen = (data) => waits.push(performance.now() - stamp(data));
  const count = Math.round(rate * seconds), all = wait(count * clients.length);
  const began = performance.now();
  let answered;
  const acks = new Promise((resolve) => { answered = resolve; });
  let sent = 0, acked = 0;
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(count, Math.floor(((performance.now() - began) / 1000) * rate));
      for (; sent < due; sent++) {
        const at = performance.now().toFixed(3);
        first.emit(event, `,1,${size},${at},${local}`, () => { if (++acked === count) answered(); });
      }
      if (sent === count) { clearInterval(timer); resolve(); }
    }, 1);
  });
  await Promise.all([all, acks]);
  tally.seen = null;
  return { deliveries: waits.length, events: count, seconds: (performance.now() - began) / 1000, ...quantiles(waits) };
}

// Ask the server something; `fill` adds a text of that many characters.
export async function call({ event, args = [], fill, name }) {
  const more = fill === undefined ? [] : ["x".repeat(fill)];
  return { answer: (await group(name)[0].call(event, ...args, ...more)) ?? null };
}

// Have `publisher`'s node publish, and wait until every client has all; stamps are of the machine's monotonic clock.
export async function publish({ count, rate, size, name, publisher }) {
  const clients = group(name), [first] = group(publisher), waits = [];
  tally.seen = (data) => waits.push(now() - stamp(data));
  const all = wait(count * clients.length);
  const began = now();
  await first.call("publish", count, rate, size);
  await all;
  tally.seen = null;
  return { deliveries: waits.length, events: count, seconds: (now() - began) / 1000, ...quantiles(waits) };
}

const now = () => Number(process.hrtime.bigint()) / 1e6;

function stamp(data) {
  const from = data.indexOf('"at":') + 5;
  return parseFloat(data.toString("latin1", from, from + 24));
}

export function quantiles(values) {
  const sorted = Float64Array.from(values).sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { p50: at(0.5), p99: at(0.99), longest: sorted.at(-1) };
}
