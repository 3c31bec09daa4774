// The bar: where one is, who one is, and how the page itself is connected.
import { html, useState } from "./lib/html.js";
import { useStore, useTicks } from "./lib/store.js";

const THEMES = ["auto", "light", "dark"];
const THEME = "mintflow.theme";

/** Follow the choice of an earlier visit, else the system's. */
function chosenTheme() {
  const kept = localStorage.getItem(THEME);
  return THEMES.includes(kept) ? kept : "auto";
}

function useTheme() {
  const [theme, set] = useState(chosenTheme());
  document.documentElement.dataset.theme = theme;
  return [
    theme,
    () => {
      const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      localStorage.setItem(THEME, next);
      set(next);
    },
  ];
}

export function Bar({ made, panels, panel, onSignOut, onTenant }) {
  const { connection, credentials } = made;
  const { who } = credentials;
  useStore(connection);
  useTicks(1000);
  const [theme, nextTheme] = useTheme();
  const status = connection.status();
  return html`<header class="bar">
    <h1>MintFlow</h1>
    <nav aria-label="Panels">
      ${panels.map((one) => html`<a href=${`#/${one.path}`} aria-current=${one === panel ? "page" : null}>${one.title}</a>`)}
    </nav>
    <p class="status" data-state=${status.state} title=${connection.transport()}>
      <span class="dot" aria-hidden="true"></span><span role="status">${status.text}</span>
    </p>
    ${who.tenants.length > 1
      ? html`<label class="tenant">Tenant
          <select value=${who.tenant} onChange=${(event) => onTenant(event.target.value)}>
            ${who.tenants.map((one) => html`<option value=${one} selected=${one === who.tenant}>${one}</option>`)}
          </select></label>`
      : html`<span class="tenant">${who.tenant}</span>`}
    <span class="who">${who.anonymous ? "anonymous" : who.name || who.userId}</span>
    <button type="button" class="quiet" onClick=${nextTheme}>Theme: ${theme}</button>
    <button type="button" class="quiet" onClick=${onSignOut}>${connection.refusal ? "Sign in again" : who.anonymous ? "Sign in" : "Sign out"}</button>
  </header>`;
}
