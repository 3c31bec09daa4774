// One workspace: its state, who is in it, and edits that met another's.
import { Store } from "../lib/store.js";
import { read } from "../lib/pointer.js";

export class Workspace extends Store {
  constructor(connection) {
    super();
    this.connection = connection;
    this.leave();
    connection.on("/workspaces", "workspace_updated", (told) => this.#updated(told));
    connection.on("/workspaces", "user_joined", ({ workspace, user }) => this.#here(workspace, user, true));
    connection.on("/workspaces", "user_left", ({ workspace, user }) => this.#here(workspace, user, false));
    connection.on("/workspaces", "presence_updated", (told) => {
      if (told.workspace !== this.id) return;
      this.presences.set(told.socketId, told.presence);
      this.changed();
    });
    connection.onFresh("/workspaces", () => this.id && this.join(this.id));
  }

  /** Forget the workspace. */
  leave() {
    if (this.id && this.connection) this.connection.call("/workspaces", "leave_workspace", { workspaceId: this.id }).catch(() => {});
    Object.assign(this, { id: null, state: {}, version: 0, updatedAt: null, updatedBy: null, users: [], presences: new Map() });
    Object.assign(this, { clash: null, error: "" });
    this.changed();
  }

  /** Enter a workspace and see its state. */
  async join(id) {
    if (this.id && this.id !== id) this.leave();
    try {
      const { workspace } = await this.connection.call("/workspaces", "join_workspace", { workspaceId: id });
      const { state, version, updatedAt, users } = workspace;
      Object.assign(this, { id, state, version, updatedAt, users, error: "" });
    } catch (error) {
      this.error = error.message;
    }
    this.changedNow();
  }

  /** Say where this page's user is: the others see it. */
  pointAt(path) {
    this.connection.call("/workspaces", "update_presence", { workspaceId: this.id, presence: { at: path } }).catch(() => {});
  }

  /**
   * Write an operation of a patch that was begun when the workspace looked as `base` (state, version).
   * Where its place has been written meanwhile, both are kept to be chosen from.
   */
  async write(operation, base) {
    this.error = "";
    let { version } = base;
    for (let tries = 0; tries < 5; tries += 1) {
      try {
        const payload = { workspaceId: this.id, patch: [operation], baseVersion: version };
        await this.connection.call("/workspaces", "update_workspace", payload);
        this.clash = null;
        break;
      } catch (error) {
        if (error.code !== "conflict" || error.details.state === undefined) {
          this.error = error.message;
          break;
        }
        const { state } = error.details;
        version = error.details.version;
        const [then, now] = [read(base.state, operation.path), read(state, operation.path)];
        if (JSON.stringify(then) !== JSON.stringify(now)) {
          this.clash = { operation, theirs: now, base: { state, version } };
          break;
        }
      }
    }
    this.changedNow();
  }

  /** End a clash: with what is mine written, or with theirs left as it is. */
  settle(isMine) {
    const { operation, base } = this.clash;
    this.clash = null;
    if (isMine) this.write(operation, base);
    this.changedNow();
  }

  #updated({ workspace, state, version, updatedAt, updatedBy }) {
    if (workspace !== this.id || version <= this.version) return;
    Object.assign(this, { state, version, updatedAt, updatedBy });
    this.changed();
  }

  #here(workspace, user, isHere) {
    if (workspace !== this.id) return;
    this.users = this.users.filter((one) => one.socketId !== user.socketId);
    if (isHere) this.users.push(user);
    else this.presences.delete(user.socketId);
    this.changed();
  }
}
