// One conversation with a model; a request that still runs is taken up again after a reload.
import { Store } from "../lib/store.js";

const MOST = 200;

export class Chat extends Store {
  constructor(connection) {
    super();
    this.connection = connection;
    const kept = connection.credentials.recall("chat") || {};
    this.conversationId = kept.conversationId || crypto.randomUUID();
    this.turns = kept.turns || [];
    this.error = "";
    connection.on("/ai", "ai_stream_start", ({ requestId, model }) => this.#of(requestId, (turn) => (turn.model = model)));
    connection.on("/ai", "ai_stream_chunk", (told) => this.#of(told.requestId, (turn) => this.#add(turn, told)));
    connection.on("/ai", "ai_stream_end", (told) => this.#of(told.requestId, (turn) => this.#end(turn, told)));
    connection.on("/ai", "ai_error", (told) => this.#of(told.requestId, (turn) => this.#end(turn, { ...told, status: "error" })));
    connection.onFresh("/ai", () => this.#resume());
  }

  /** The request that runs, undefined where none does. */
  get running() {
    return this.turns.find((turn) => turn.status === "running");
  }

  /** Ask the model. */
  async ask(prompt, model) {
    const turn = { requestId: crypto.randomUUID(), prompt, answer: "", index: -1, status: "running", model };
    this.turns = [...this.turns, turn].slice(-MOST);
    this.#keep();
    const payload = { requestId: turn.requestId, prompt, stream: true, conversationId: this.conversationId };
    try {
      await this.connection.call("/ai", "ai_request", model ? { ...payload, model } : payload);
    } catch (error) {
      this.#end(turn, { status: "error", error: error.message });
    }
  }

  /** Stop the request that runs. */
  async stop() {
    const turn = this.running;
    if (!turn) return;
    try {
      await this.connection.call("/ai", "cancel_stream", { requestId: turn.requestId });
    } catch (error) {
      this.error = error.message;
      this.changedNow();
    }
  }

  /** Forget the conversation, here and on the server. */
  async forget() {
    try {
      await this.connection.call("/ai", "clear_history", { conversationId: this.conversationId });
      this.turns = [];
      this.conversationId = crypto.randomUUID();
      this.error = "";
    } catch (error) {
      this.error = error.message;
    }
    this.#keep();
  }

  async #resume() {
    const turn = this.running;
    if (!turn) return;
    try {
      const payload = turn.index >= 0 ? { requestId: turn.requestId, after: turn.index } : { requestId: turn.requestId };
      const found = await this.connection.call("/ai", "resume_stream", payload);
      for (const chunk of found.chunks) this.#add(turn, chunk);
      if (found.status !== "running") this.#end(turn, found);
    } catch (error) {
      this.#end(turn, { status: "error", error: error.message });
    }
  }

  #of(requestId, act) {
    const turn = this.turns.find((one) => one.requestId === requestId);
    if (!turn) return;
    act(turn);
    this.#keep();
  }

  #add(turn, { chunk, index }) {
    if (index <= turn.index) return;
    turn.answer += chunk;
    turn.index = index;
    this.changed();
  }

  #end(turn, { status, finishReason, usage, error }) {
    Object.assign(turn, { status, finishReason, usage, error });
    this.#keep();
  }

  #keep() {
    this.connection.credentials.remember("chat", { conversationId: this.conversationId, turns: this.turns.slice(-20) });
    this.changed();
  }
}
