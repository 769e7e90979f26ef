// Draws what the tables of /statistics say: jobs and CPU hours by day, waiting and run times as distributions.

import { axis, bars, draw, line, wordAxis } from "./plots.js";

const days = document.getElementById("plot-days");
const number = (value) => (value === null || value === undefined ? "" : value.toLocaleString(undefined, { maximumFractionDigits: 1 }));
const fromZero = (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.05)];

/** How far the first and the last bar reach over their places. */
const around = (count) => ({ time: false, range: () => [-0.6, Math.max(0.6, count - 0.4)] });

function drawDays(rows) {
  const places = rows.map((_, at) => at);
  const labels = rows.map((row) => (rows.length > 366 ? row.day : row.day.slice(5)));
  draw(days, (width) => ({
    width,
    height: 230,
    scales: { x: around(rows.length), y: { range: fromZero }, cpu: { range: fromZero } },
    series: [
      { label: "Day", value: (_plot, at) => rows[at]?.day ?? "" },
      bars("not done", "--bad", { value: (_plot, _value, _series, at) => (rows[at] ? number(rows[at].jobs - rows[at].done) : "") }),
      bars("done", "--good", { value: (_plot, value) => number(value) }),
      line("CPU hours", "--run", { scale: "cpu", value: (_plot, value) => number(value), points: { show: rows.length < 40, size: 5 } }),
    ],
    axes: [wordAxis(labels, rows.length > 366 ? 90 : 50), axis({ size: 55 }), axis({ scale: "cpu", side: 1, size: 55, grid: { show: false } })],
  }), [places, rows.map((row) => row.jobs), rows.map((row) => row.done), rows.map((row) => row.cpu_hours)]);
  describe(days, "Jobs and CPU hours by day; the figures are in the table below");
}

function drawBins(id, rows) {
  const box = document.getElementById(id);
  if (!rows.length) return;
  const labels = rows.map((row) => row.text.replace(/ (to|or) .*/, ""));
  draw(box, (width) => ({
    width,
    height: 200,
    scales: { x: around(rows.length), y: { range: fromZero } },
    series: [{ label: "Time", value: (_plot, at) => rows[at]?.text ?? "" }, bars("Jobs", "--run", { value: (_plot, value) => number(value) })],
    axes: [wordAxis(labels, 55), axis({ size: 55 })],
  }), [rows.map((_, at) => at), rows.map((row) => row.jobs)]);
  describe(box, "How many jobs took how long; the figures are in the table below");
}

function describe(box, text) {
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", text);
}

async function load() {
  const answer = await fetch(days.dataset.api, { cache: "no-store" });
  if (!answer.ok) return;
  const found = await answer.json();
  drawDays(found.by_day);
  drawBins("plot-waiting", found.waiting);
  drawBins("plot-running", found.running);
  for (const figures of document.querySelectorAll("details.figures")) figures.open = false; // the plot says it, too
}

if (days) load().catch(() => {}); // the tables stay
