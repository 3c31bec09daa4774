// Who looks: a token, or the session that a ticket was exchanged for; kept for this tab alone.

const KEY = "mintflow.console";
const PATIENCE_MS = 15_000;

export class Refused extends Error {
  /** `code` is that of the error tree, `status` that of HTTP. */
  constructor(status, error) {
    super(error?.message || `The server answers ${status}`);
    this.status = status;
    this.code = error?.code || "";
  }
}

export class Credentials {
  constructor() {
    let kept = {};
    try {
      kept = JSON.parse(sessionStorage.getItem(KEY)) || {};
    } catch {
      // What isn't readable is as good as nothing.
    }
    this.token = kept.token || null;
    this.tenant = kept.tenant || null;
    this.who = null;
  }

  /** Ask who `token` is, in `tenant`; remember both. Without a token: whoever nobody is. Throws Refused. */
  async signIn(token = this.token, tenant = this.tenant) {
    const who = await ask("POST", "session", token, tenant);
    this.token = who.session || token;
    this.tenant = who.tenant;
    this.who = who;
    sessionStorage.setItem(KEY, JSON.stringify({ token: this.token, tenant: this.tenant }));
    return who;
  }

  /** Forget the token. */
  signOut() {
    // What this tab knows of runs and conversations is not the next one's to see.
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEY)) sessionStorage.removeItem(key);
    this.token = this.tenant = this.who = null;
  }

  /** Return what one connection shows: the token, or a ticket of the session's. */
  async forOneUse() {
    if (!this.token?.startsWith("c_")) return this.token;
    return (await ask("POST", "ticket", this.token, this.tenant)).ticket;
  }

  /** Ask the HTTP API. Throws Refused. */
  async api(method, path) {
    return ask(method, this.who.api + path, await this.forOneUse(), this.tenant);
  }

  /** Let this tab remember something of this user in this tenant, over reloads. */
  remember(name, value) {
    try {
      sessionStorage.setItem(this.#place(name), JSON.stringify(value));
    } catch {
      // Longer than a browser keeps: after a reload it is gone here, and on the server it is still there.
    }
  }

  /** Return what `remember` was told, null where that was nothing. */
  recall(name) {
    try {
      return JSON.parse(sessionStorage.getItem(this.#place(name)));
    } catch {
      return null;
    }
  }

  // Who is anonymous has another user id each time.
  #place(name) {
    return `${KEY}.${name}.${this.who.tenant}.${this.who.anonymous ? "" : this.who.userId}`;
  }

  may(permission) {
    return this.who.scope.includes(permission);
  }
}

async function ask(method, url, token, tenant) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (tenant) headers["X-Tenant-Id"] = tenant;
  const response = await fetch(url, { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error);
  return body;
}
