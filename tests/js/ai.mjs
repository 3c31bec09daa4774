// Streams an answer, loses its connection in the middle, resumes (at the second address), cancels another request.
// usage: ai.mjs URL OTHER_URL TOKEN PROMPT
import { io } from "socket.io-client";

const [url, other, token, prompt] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
const connect = (address) => io(`${address}/ai`, { auth: { token }, forceNew: true, reconnection: false });
const until = async (condition) => {
  while (!condition()) await new Promise((done) => setTimeout(done, 5));
};

const first = connect(url);
const before = [];
first.on("connect_error", (error) => say({ connect_error: error.message }));
first.on("ai_stream_chunk", (event) => before.push(event));
say({ accepted: await first.emitWithAck("ai_request", { requestId: "js", prompt, stream: true }) });
await until(() => before.length >= 5);
first.io.engine.close();

const second = connect(other);
const events = [];
second.onAny((event, payload) => events.push({ event, ...payload }));
const after = before.at(-1).index;
const { ok, data } = await second.emitWithAck("resume_stream", { requestId: "js", after });
say({ ok, status: data.status });
await until(() => events.some((one) => one.event === "ai_stream_end"));
const chunks = [...before, ...data.chunks, ...events.filter((one) => one.event === "ai_stream_chunk")];
say({ text: chunks.map((one) => one.chunk).join(""), indices: chunks.map((one) => one.index) });
say(events.at(-1));

say(await second.emitWithAck("ai_request", { requestId: "js2", prompt, stream: true }));
await until(() => events.filter((one) => one.event === "ai_stream_chunk" && one.requestId === "js2").length >= 3);
second.emit("cancel_stream", { requestId: "js2" });
await until(() => events.some((one) => one.event === "ai_stream_end" && one.requestId === "js2"));
say(events.filter((one) => one.requestId === "js2" && one.event === "ai_stream_end"));
process.exit(0);
