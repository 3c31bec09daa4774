// A list of log lines that draws only those that are seen: what 100,000 cost is their memory.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { useStore, useTicks } from "../lib/store.js";
import { ago, at } from "../lib/text.js";
import { Details } from "./line_details.js";

// As page.css has it.
const ROW = 22;
const MORE = 10;

/** `lines` has `shown`, numbers in order, and `line(number)`. `onFollowing` is told whether the end is being followed. */
export function LineList({ lines, label, isFollowing, onFollowing = () => {}, isRelative = false }) {
  useStore(lines);
  useTicks(1000, isRelative);
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [chosen, choose] = useState(null);
  const { shown } = lines;
  const seen = useRef({ first: shown[0] });
  // Where this list has scrolled to by itself: such an event comes later, and is nobody's wish.
  const ours = useRef(-1);

  // Before it is painted: the end stays at the end, and what is being read stays where it is when older lines go.
  useLayoutEffect(() => {
    const one = box.current;
    const { first, number } = seen.current;
    if (isFollowing) {
      one.scrollTop = shown.length * ROW;
      ours.current = one.scrollTop;
    } else if (shown[0] !== first && number !== undefined) {
      // Lines have come before it, or gone.
      const place = placeOf(shown, number);
      one.scrollTop += (place - seen.current.place) * ROW;
    }
    const place = Math.min(shown.length - 1, Math.floor(one.scrollTop / ROW));
    seen.current = { first: shown[0], place, number: shown[place] };
  });
  useEffect(() => {
    const measure = new ResizeObserver(() => setView((now) => ({ ...now, height: box.current?.clientHeight || now.height })));
    measure.observe(box.current);
    return () => measure.disconnect();
  }, []);

  const scrolled = ({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
    setView({ top: scrollTop, height: clientHeight });
    if (Math.abs(scrollTop - ours.current) > 1) onFollowing(scrollTop + clientHeight >= scrollHeight - ROW);
  };
  const move = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") choose(null);
    if (!step || !shown.length) return;
    event.preventDefault();
    const place = chosen === null ? shown.length - 1 : Math.min(shown.length - 1, Math.max(0, placeOf(shown, chosen) + step));
    choose(shown[place]);
    const top = place * ROW;
    const { scrollTop, clientHeight } = box.current;
    if (top < scrollTop || top > scrollTop + clientHeight - ROW) box.current.scrollTop = top - clientHeight / 2;
  };
  const top = isFollowing ? Math.max(0, shown.length * ROW - view.height) : view.top;
  const from = Math.max(0, Math.floor(top / ROW) - MORE);
  const upTo = Math.min(shown.length, Math.ceil((top + view.height) / ROW) + MORE);
  const rows = [];
  for (let place = from; place < upTo; place += 1) {
    const number = shown[place];
    const line = lines.line(number);
    if (line) rows.push(html`<${Line} key=${number} line=${line} place=${place} number=${number} isChosen=${number === chosen} onChoose=${choose} isRelative=${isRelative} />`);
  }
  const open = chosen === null ? null : lines.line(chosen);
  return html`<div class="lines">
    <div class="scroll" ref=${box} tabindex="0" role="listbox" aria-label=${label} onScroll=${scrolled} onKeyDown=${move}
      aria-activedescendant=${open ? `line-${chosen}` : null}>
      <div class="all" role="presentation" style=${{ height: `${shown.length * ROW}px` }}>${rows}</div>
    </div>
    ${open ? html`<${Details} line=${open} onClose=${() => choose(null)} />` : null}
  </div>`;
}

/** Return the place of the first of ascending numbers that is `number` or more. */
function placeOf(numbers, number) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

function Line({ line, place, number, isChosen, onChoose, isRelative }) {
  const position = { top: `${place * ROW}px` };
  if (line.marker) return html`<div class="line marker" role="option" aria-selected="false" style=${position}>— ${line.marker} —</div>`;
  const where = [line.flowId, line.runId, line.nodeId].filter(Boolean).join(" / ");
  return html`<div class="line" id=${`line-${number}`} role="option" aria-selected=${String(isChosen)} data-level=${line.logLevel} style=${position}
      onClick=${() => onChoose(isChosen ? null : number)}>
    <time>${isRelative ? ago(line.createdAt) : at(line.createdAt)}</time>
    <span class="level">${line.logLevel}</span>
    ${where ? html`<span class="where">${where}</span>` : null}
    <span class="message">${firstLine(line.message)}</span>
  </div>`;
}

// The rest is in the details; a browser lays out a line of 64 KB slowly.
function firstLine(text) {
  const end = text.indexOf("\n");
  return (end < 0 ? text : `${text.slice(0, end)} …`).slice(0, 1000);
}
