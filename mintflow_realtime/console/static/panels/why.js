// Why: what became of one event on its way to one user. For the scope admin.
import { html, useState } from "../lib/html.js";
import { at } from "../lib/text.js";

const NAMESPACES = ["/logs", "/flows", "/workspaces", "/ai"];

export function WhyPanel({ made }) {
  const [found, show] = useState(null);
  const ask = async (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    const query = new URLSearchParams([...fields].filter(([, value]) => value));
    try {
      show({ answer: await made.credentials.api("GET", `/why?${query}`) });
    } catch (error) {
      // The answer's own code tells an event that isn't known from a server that doesn't know the question.
      const isOlder = error.status === 404 && !error.code;
      show({ sentence: isOlder ? "This server can't say why: a later version can." : error.message });
    }
  };
  return html`<section class="panel" aria-labelledby="why-title">
    <div class="tools">
      <h2 id="why-title">Why did somebody not get an event?</h2>
      <form onSubmit=${ask}>
        <label>Offset<input name="offset" required placeholder="1-42" /></label>
        <label>User<input name="userId" required maxlength="255" /></label>
        <label>Namespace<input name="namespace" placeholder="any built-in" list="why-namespaces" /></label>
        <datalist id="why-namespaces">${NAMESPACES.map((one) => html`<option value=${one} />`)}</datalist>
        <label>Tenant<input name="tenant" value=${made.credentials.who.tenant} /></label>
        <button type="submit">Ask</button>
      </form>
    </div>
    <div aria-live="polite">
      ${found?.sentence ? html`<p class="note">${found.sentence}</p>` : null}
      ${found?.answer ? html`<${Answer} answer=${found.answer} />` : null}
    </div>
  </section>`;
}

function Answer({ answer }) {
  return html`<p><b>${answer.name}</b> ${answer.offset} in ${answer.namespace} was numbered ${answer.numberedAt ? at(answer.numberedAt) : "at a time that isn't kept"}, for ${(answer.rooms || []).join(", ") || "nobody"}.</p>
    ${answer.unanswered.length ? html`<p class="error" role="alert">Without an answer: ${answer.unanswered.join(", ")}</p>` : null}
    <h3>Nodes that heard it</h3>
    <ul>${answer.nodes.map((node) => html`<li key=${node.nodeId}>${node.nodeId} <span class="note">${at(node.heardAt)}</span></li>`)}</ul>
    <h3>Connections of the user</h3>
    <div class="scroll some" tabindex="0" role="region" aria-label="Connections of the user"><table><thead><tr><th>Outcome</th><th>Connection</th><th>What happened</th></tr></thead>
      <tbody>${answer.connections.map((one) => html`<tr key=${`${one.sid} ${one.nodeId}`}><th scope="row"><span class="badge" data-outcome=${one.outcome}>${one.outcome}</span></th>
        <td>${one.sid ?? "none"} <span class="note">${one.nodeId}</span></td><td>${one.sentence}</td></tr>`)}</tbody></table></div>`;
}
