// JSON Pointers (RFC 6901).

export const child = (path, name) => `${path}/${String(name).replaceAll("~", "~0").replaceAll("/", "~1")}`;

/** Return what stands at `path`, undefined where there is nothing. */
export function read(value, path) {
  for (const part of path.split("/").slice(1)) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    // Own members alone: `__proto__` is a name as any other.
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}
