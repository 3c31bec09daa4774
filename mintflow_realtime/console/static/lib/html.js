// Templates of Preact: text in them is text, whoever wrote it.
import { h } from "../../vendor/preact.js";
import htm from "../../vendor/htm.js";

export const html = htm.bind(h);
export { render } from "../../vendor/preact.js";
export { useEffect, useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
