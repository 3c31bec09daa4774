// A curve over time, by uPlot.
import uPlot from "../../vendor/uplot.js";
import { html, useEffect, useRef } from "../lib/html.js";

const HEIGHT = 110;

export function Chart({ points, label }) {
  const place = useRef(null);
  const chart = useRef(null);
  useEffect(() => {
    const colour = () => getComputedStyle(place.current).color;
    const axis = { stroke: colour, grid: { show: false }, size: 34 };
    chart.current = new uPlot(
      {
        width: place.current.clientWidth || 600,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        series: [{}, { label, stroke: colour, width: 1.5, points: { show: false } }],
        axes: [axis, { ...axis, size: 50 }],
        // A curve of one minute at least: of a single point it would be one of years.
        scales: { x: { range: (_, low, high) => [Math.min(low, high - 60), high] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
      },
      points,
      place.current,
    );
    const box = place.current;
    const resized = new ResizeObserver(() => box.isConnected && chart.current.setSize({ width: box.clientWidth, height: HEIGHT }));
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      chart.current.destroy();
    };
  }, []);
  useEffect(() => chart.current.setData(points));
  const last = points[1].at(-1) ?? 0;
  return html`<figure class="chart"><figcaption>${label}: ${last.toLocaleString("en", { maximumFractionDigits: 1 })}</figcaption><div ref=${place} aria-hidden="true"></div></figure>`;
}
