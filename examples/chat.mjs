// A chat in the terminal: node examples/chat.mjs [url]
// Answers come word by word. Ctrl-C cancels the answer, and with none it ends the chat; /clear forgets the conversation.
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { io } from "socket.io-client";

const url = process.argv[2] ?? "http://127.0.0.1:3000";
// A server that wants a token gets the one of the environment; a JWT, or a fresh ticket.
// `recover`: after a lost connection the server sends what was missed, the end of an answer too.
const auth = { recover: true, ...(process.env.TOKEN && { token: process.env.TOKEN }) };
const ai = io(`${url}/ai`, { auth });
const conversationId = randomUUID();
const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: "you> " });

// The answer that is coming: its request, what was asked, the last chunk shown, and whether some may be missing since.
let current = null;

function show({ chunk, index }) {
  if (current.stale || index <= current.last) return;
  current.last = index;
  process.stdout.write(chunk);
}

function end(status, error) {
  if (status === "cancelled") process.stdout.write(" [cancelled]");
  if (status === "error") process.stdout.write(` [${error}]`);
  process.stdout.write("\n");
  current = null;
  next();
}

const mine = (act) => (event) => event.requestId === current?.requestId && act(event);
ai.on("ai_stream_chunk", mine(show));
ai.on("ai_stream_end", mine(({ status, error }) => current.stale || end(status, error)));

// A connection that is lost before its answer comes rejects it; `resume` then goes on.
const command = (...what) => ai.emitWithAck(...what).catch(() => null);

// After a reconnect, what was missed comes with the answer, and the rest goes on by itself. Chunks are in no log: the
// server sends the end of an answer again, but not them. What follows the answer may come with it in one message, so a
// callback takes it: a promise would be too late.
function resume() {
  if (!current) return;
  current.stale = true;
  const { requestId, last } = current;
  ai.emit("resume_stream", { requestId, after: last }, (answer) => {
    if (requestId !== current?.requestId) return;
    current.stale = false;
    // The connection ended before the server had the request.
    if (answer.error?.code === "not_found" && last < 0) return request();
    if (!answer.ok) return end("error", answer.error.message);
    answer.data.chunks.forEach(show);
    if (answer.data.status !== "running") end(answer.data.status, answer.data.error);
  });
}

// To ask for a `requestId` again costs nothing: it has one answer.
async function request() {
  const { requestId, prompt } = current;
  const answer = await command("ai_request", { requestId, prompt, stream: true, conversationId });
  if (answer && !answer.ok && current?.requestId === requestId) end("error", answer.error.message);
}

function ask(prompt) {
  current = { requestId: randomUUID(), prompt, last: -1, stale: false };
  process.stdout.write("ai>  ");
  return request();
}

// What was typed and not asked yet.
const typed = [];

async function next() {
  if (current || !ai.connected) return;
  const line = typed.shift();
  if (line === "/clear") await command("clear_history", { conversationId });
  if (line && line !== "/clear") await ask(line);
  else if (typed.length) next();
  else if (lines.closed) ai.close();
  else lines.prompt();
}

lines.on("line", (line) => typed.push(line.trim()) === 1 && next());
ai.once("connect", () => {
  console.log(`connected to ${url}`);
  next();
  ai.on("connect", resume);
});
ai.on("resync", resume);
ai.on("connect_error", (error) => console.error(`not connected: ${error.message}`));
ai.on("disconnect", () => current && (current.stale = true));
ai.on("disconnect", (reason) => reason === "io client disconnect" || console.error(`\ndisconnected: ${reason}`));

lines.on("SIGINT", () => (current ? ai.emit("cancel_stream", { requestId: current.requestId }) : lines.close()));
lines.on("close", () => {
  lines.closed = true;
  if (!current && !typed.length) ai.close();
});
