// CPU and memory over a job's life. Without this script the page has their mean and peak as a table.

import { axis, colour } from "./plots.js";
import uPlot from "./uplot/uPlot.esm.js";

const EVERY = 5000; // milliseconds; the daemon measures that often
const HEIGHT = 150;
const place = document.getElementById("usage-plot");
const dark = matchMedia("(prefers-color-scheme: dark)");
let plots = [];
let drawn = null;
let timer = 0;

const bytes = (value) => {
  if (value === null || value === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(4, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${+(value / 1024 ** step).toPrecision(3)} ${units[step]}`;
};

/** A moment in the reader's time, with the seconds only where the step is below a minute. */
function clock(seconds, step = 0) {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}${step < 60 ? `:${two(time.getSeconds())}` : ""}`;
}

/** Ticks in hours and minutes, and the date where another day begins. */
function timeTicks(_plot, splits, _axis, _space, step) {
  let day = "";
  return splits.map((seconds) => {
    const before = day;
    const time = new Date(seconds * 1000);
    day = `${time.getMonth() + 1}-${String(time.getDate()).padStart(2, "0")}`;
    if (step >= 86400) return day;
    return clock(seconds, step) + (before && before !== day ? `\n${day}` : "");
  });
}

/** Ticks at powers of two: memory is counted in binary units. */
function byteSplits(_plot, _axis, low, high, _step, _space) {
  const step = 2 ** Math.ceil(Math.log2(Math.max(1, (high - low) / 4)));
  const splits = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) splits.push(at);
  return splits;
}

function options(title, series, unit, width) {
  return {
    width,
    height: HEIGHT,
    padding: [10, 30, 0, 0], // room for the last time below the axis
    cursor: { sync: { key: "usage" }, drag: { x: true, y: false } },
    legend: { live: true },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(unit.least, (high ?? 0) * 1.08)] } },
    series: [{ label: "Time", value: (_plot, seconds) => (seconds ? `${new Date(seconds * 1000).toLocaleDateString("sv")} ${clock(seconds)}` : "") }, { label: title, spanGaps: false, width: 1.5, points: { show: false }, ...series }],
    axes: [axis({ values: timeTicks }), axis({ size: 70, ...unit.format })],
  };
}

function draw(usage) {
  for (const plot of plots) plot.destroy();
  const width = Math.max(240, place.clientWidth);
  const format = (say) => ({ values: (_plot, splits) => splits.map(say) });
  const number = (value) => (value === null || value === undefined ? "" : value.toFixed(2));
  const cpu = options("Processors in use", { stroke: colour("--run"), fill: `${colour("--run")}22`, value: (_p, v) => number(v) }, { least: 1, format: format((v) => String(+v.toFixed(2))) }, width);
  const memory = options("Memory", { stroke: colour("--warn"), fill: `${colour("--warn")}22`, value: (_p, v) => bytes(v) }, { least: 1 << 20, format: { ...format(bytes), splits: byteSplits } }, width);
  plots = [new uPlot(cpu, [usage.time, usage.cpu], place), new uPlot(memory, [usage.time, usage.memory], place)];
  place.classList.add("plot");
  drawn = usage;
}

async function load() {
  clearTimeout(timer);
  let more = true;
  try {
    const answer = await fetch(place.dataset.api, { cache: "no-store", signal: AbortSignal.timeout(20000) });
    const usage = answer.ok ? await answer.json() : null;
    if (usage && usage.time.length > 1) show(usage);
    more = !usage?.ended && answer.status !== 404;
  } catch {
    // the dashboard is away: the next look may find it
  }
  if (more) timer = setTimeout(next, EVERY);
}

/** New figures go into the plots that are there, unless one looks closer at a part of them. */
function show(usage) {
  if (drawn && drawn.time.length === usage.time.length && drawn.time.at(-1) === usage.time.at(-1)) return;
  if (!plots.length) return draw(usage);
  const zoomed = plots.some((plot) => plot.scales.x.min > drawn.time[0] || plot.scales.x.max < drawn.time.at(-1));
  plots[0].setData([usage.time, usage.cpu], !zoomed);
  plots[1].setData([usage.time, usage.memory], !zoomed);
  drawn = usage;
}

const next = () => (document.hidden ? (timer = setTimeout(next, 1000)) : load());

if (place) {
  new ResizeObserver(() => plots.forEach((plot) => plot.setSize({ width: Math.max(240, place.clientWidth), height: HEIGHT }))).observe(place);
  dark.addEventListener("change", () => drawn && draw(drawn));
  document.addEventListener("qm:refreshed", () => drawn || timer || load());
  load();
}
