// Bars and lines with uPlot, in the colours of the page, as wide as their box, light or dark.

import uPlot from "./uplot/uPlot.esm.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A series drawn as bars; `name` is the variable of its colour. */
export const bars = (label, name, more = {}) => ({
  label, stroke: colour(name), fill: colour(name), width: 0, paths: uPlot.paths.bars({ size: [0.8, 60], gap: 1 }), points: { show: false }, ...more,
});

/** A series drawn as a line. */
export const line = (label, name, more = {}) => ({ label, stroke: colour(name), width: 2, points: { show: false }, ...more });

export const axis = (more = {}) => ({
  stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, ...more,
});

/** Places 0, 1, 2, … with words below them, as many as there is room for. */
export function wordAxis(labels, room = 70) {
  const shown = (plot, low, high) => {
    const step = Math.max(1, Math.ceil(((high - low) * room) / (plot.bbox.width / devicePixelRatio || plot.width)));
    const splits = [];
    for (let at = Math.max(0, Math.ceil(low)); at <= Math.min(labels.length - 1, high); at += 1) if (at % step === 0) splits.push(at);
    return splits;
  };
  return axis({ splits: (plot, _axis, low, high) => shown(plot, low, high), values: (_plot, splits) => splits.map((at) => labels[at] ?? ""), grid: { show: false } });
}

/** Keep a plot in its box: `options(width)` are made anew when the box or the colours change. */
export function draw(box, options, data) {
  let plot = null;
  let width = 0;
  const make = () => {
    width = box.clientWidth;
    plot?.destroy();
    plot = width > 0 ? new uPlot(options(width), data, box) : null;
  };
  box.hidden = false;
  make();
  new ResizeObserver(() => Math.abs(box.clientWidth - width) > 1 && make()).observe(box);
  dark.addEventListener("change", make);
}
