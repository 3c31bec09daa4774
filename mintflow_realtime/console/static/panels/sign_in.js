// The page that takes a token.
import { html, useState } from "../lib/html.js";

export function SignIn({ error, onToken }) {
  const [token, set] = useState("");
  const [tenant, setTenant] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onToken(token.trim(), tenant.trim() || null);
  };
  const isAsking = error?.code === "authentication_required";
  return html`<main class="alone">
    <h1>MintFlow Realtime</h1>
    ${error && !isAsking ? html`<p class="error" role="alert">${error.message}</p>` : null}
    <form onSubmit=${submit}>
      <label>Token<textarea rows="4" required spellcheck="false" autocomplete="off" value=${token} onInput=${(event) => set(event.target.value)}></textarea></label>
      <label>Tenant, where the token is for several<input value=${tenant} onInput=${(event) => setTenant(event.target.value)} /></label>
      <button type="submit">Sign in</button>
    </form>
    <p class="note">Or run <code>mintflow console</code> where the server's settings are: it prints an address that signs in by itself.</p>
  </main>`;
}
