// AI: a chat whose answers stream.
import { html, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { useStore } from "../lib/store.js";

const ENDS = { length: "cut at the longest answer", content_filter: "cut by a filter", stop: "" };

export function AiPanel({ made }) {
  const chat = useStore(made.chat);
  const [prompt, setPrompt] = useState("");
  const [model, setModel] = useState("");
  const talk = useRef(null);
  const { running } = chat;
  useLayoutEffect(() => {
    talk.current.scrollTop = talk.current.scrollHeight;
  });
  const ask = (event) => {
    event.preventDefault();
    if (running || !prompt.trim()) return;
    chat.ask(prompt, model.trim());
    setPrompt("");
  };
  const byEnter = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && ask(event);
  return html`<section class="panel ai" aria-labelledby="ai-title">
    <div class="tools">
      <h2 id="ai-title">AI</h2>
      <label>Model<input value=${model} placeholder="the server's" onInput=${(event) => setModel(event.target.value)} /></label>
      <button type="button" disabled=${Boolean(running)} onClick=${() => chat.forget()}>Forget the conversation</button>
      ${chat.error ? html`<span class="error" role="alert">${chat.error}</span>` : null}
    </div>
    <div class="talk scroll" ref=${talk} tabindex="0" role="log" aria-label="Conversation">
      ${chat.turns.map((turn) => html`<${Turn} key=${turn.requestId} turn=${turn} />`)}
      ${chat.turns.length ? null : html`<p class="note">Ask something. What is said here belongs to you alone.</p>`}
    </div>
    <form class="ask" onSubmit=${ask}>
      <label>Question<textarea rows="2" value=${prompt} onInput=${(event) => setPrompt(event.target.value)} onKeyDown=${byEnter}></textarea></label>
      ${running
        ? html`<button type="button" onClick=${() => chat.stop()}>Stop</button>`
        : html`<button type="submit">Ask</button>`}
    </form>
  </section>`;
}

function Turn({ turn }) {
  const { usage } = turn;
  const end = turn.status === "running" ? "…" : [turn.status, ENDS[turn.finishReason] ?? turn.finishReason, turn.error].filter(Boolean).join(": ");
  return html`<div class="turn">
    <p class="said">${turn.prompt}</p>
    <p class="answer" aria-busy=${String(turn.status === "running")}>${turn.answer}</p>
    <p class="note">${[turn.model, end, turn.finishReason && `finish reason ${turn.finishReason}`].filter(Boolean).join(", ")}
      ${usage ? `; ${usage.promptTokens} + ${usage.completionTokens} = ${usage.totalTokens} tokens` : ""}</p>
  </div>`;
}
