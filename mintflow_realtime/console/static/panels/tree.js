// JSON as a tree; with `onEdit`, one whose values can be changed.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { child } from "../lib/pointer.js";

// Members of one object or list that are shown before one asks for more.
const MOST = 100;
const OPEN_LEVELS = 2;

export function Tree({ value, path = "", onEdit = null, depth = 0 }) {
  const [most, setMost] = useState(MOST);
  if (value === null || typeof value !== "object") return html`<${Leaf} value=${value} path=${path} onEdit=${onEdit} />`;
  const members = Array.isArray(value) ? value.map((one, place) => [place, one]) : Object.entries(value);
  return html`<ul class="tree">
    ${members.slice(0, most).map(([name, one]) => html`<${Member} key=${name} name=${name} value=${one} path=${child(path, name)} onEdit=${onEdit} depth=${depth} />`)}
    ${members.length > most ? html`<li><button type="button" class="quiet" onClick=${() => setMost(most + 10 * MOST)}>${members.length - most} more</button></li>` : null}
    ${members.length ? null : html`<li class="note">${Array.isArray(value) ? "[ ]" : "{ }"}</li>`}
    ${onEdit ? html`<li><${Adder} value=${value} path=${path} onEdit=${onEdit} /></li>` : null}
  </ul>`;
}

function Member({ name, value, path, onEdit, depth }) {
  const [isOpen, open] = useState(depth < OPEN_LEVELS);
  const remove = onEdit
    ? html` <button type="button" class="quiet" aria-label=${`Remove ${path}`} onClick=${() => onEdit({ op: "remove", path })}>×</button>`
    : null;
  if (value === null || typeof value !== "object") {
    return html`<li><span class="name">${name}</span>: <${Leaf} value=${value} path=${path} onEdit=${onEdit} />${remove}</li>`;
  }
  const size = Array.isArray(value) ? `[${value.length}]` : `{${Object.keys(value).length}}`;
  return html`<li>
    <button type="button" class="fold" aria-expanded=${String(isOpen)} onClick=${() => open(!isOpen)}><span class="name">${name}</span> ${size}</button>${remove}
    ${isOpen ? html`<${Tree} value=${value} path=${path} onEdit=${onEdit} depth=${depth + 1} />` : null}
  </li>`;
}

function Leaf({ value, path, onEdit }) {
  const text = JSON.stringify(value) ?? "";
  if (!onEdit) return html`<code class="leaf">${text}</code>`;
  return html`<${Editor} text=${text} label=${`Change ${path || "the value"}`} path=${path} onEdit=${onEdit} />`;
}

/** A value that turns into a field; `onEdit("begin", path)` says so, and returns what the edit is based on. */
function Editor({ text, label, path, onEdit }) {
  const [draft, setDraft] = useState(null);
  const field = useRef(null);
  useEffect(() => field.current?.focus(), [draft === null]);
  if (draft === null) {
    return html`<button type="button" class="leaf" aria-label=${`${label}: ${text.slice(0, 200)}`}
      onClick=${() => setDraft({ text, base: onEdit("begin", path) })}>${text.slice(0, 2000)}</button>`;
  }
  const submit = (event) => {
    event.preventDefault();
    onEdit({ op: "replace", path, value: parsed(draft.text) }, draft.base);
    setDraft(null);
  };
  const leave = (event) => event.key === "Escape" && setDraft(null);
  return html`<form class="edit" onSubmit=${submit} onKeyDown=${leave}>
    <input ref=${field} aria-label=${label} value=${draft.text} onInput=${(event) => setDraft({ ...draft, text: event.target.value })} />
    <button type="submit">Write</button><button type="button" class="quiet" onClick=${() => setDraft(null)}>Leave</button>
  </form>`;
}

function Adder({ value, path, onEdit }) {
  const isList = Array.isArray(value);
  const submit = (event) => {
    event.preventDefault();
    const { name, text } = event.target.elements;
    onEdit({ op: "add", path: child(path, isList ? "-" : name.value), value: parsed(text.value) });
    event.target.reset();
  };
  return html`<details class="add"><summary aria-label=${`Add to ${path || "the state"}`}>add</summary>
    <form class="edit" onSubmit=${submit}>
      ${isList ? null : html`<input name="name" aria-label="Name" placeholder="name" required />`}
      <input name="text" aria-label="Value" placeholder="value (JSON, or text)" required />
      <button type="submit">Add</button>
    </form></details>`;
}

/** Return what was typed as JSON; what isn't JSON is text. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
