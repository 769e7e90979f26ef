// The live log of a job's page: shows the end, follows it, loads earlier and later pieces, searches.
//
// Invariants: one request at a time, each for a bounded piece by byte offset; nothing is rendered that cannot be
// read: behind a backlog it jumps to the end.

import { MOST_ROWS, lastLines, LogWindow, partial } from "./logwindow.js";
import { Search } from "./logsearch.js";

const PIECE = 256 << 10; // bytes that are loaded at once
const BACKLOG = 2 << 20; // bytes behind the end from which on it jumps
const POLL = 700; // milliseconds between two looks at a running job
const SLOW_POLL = 3000; // and at one that waits
const LONG = 4000; // bytes of a line that are certainly shown
const NEAR = 300; // pixels from the first or last row at which more is loaded
const TRIES = 4; // pieces that are loaded by themselves to fill the box

const section = document.getElementById("log");
const box = document.getElementById("log-box");
const said = document.getElementById("log-said");
const follow = document.getElementById("log-follow");
const name = section.dataset.log;
const written = /\.log$/.test(name); // logs of earlier attempts do not grow

const earlier = document.createElement("button");
const rows = document.createElement("div");
const view = new LogWindow(rows);

const known = { size: 0, generation: null, state: "", ended: false, message: "", anew: 0 };
let busy = Promise.resolve();
let timer = 0;
let failures = 0;
let lastTop = 0;

/** Ask for a piece; `anew` says that it is of another log than the one shown. Throws when there is none. */
async function fetchPiece(offset, limit) {
  const address = `${section.dataset.api}?${new URLSearchParams({ log: name, offset, limit })}`;
  const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(30000) });
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(error || answer.statusText), { final: answer.status >= 400 && answer.status < 500 });
  }
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const number = (header) => Number(answer.headers.get(header));
  const anew = known.generation !== null && known.generation !== number("QM-Log-Generation");
  known.size = number("QM-Log-Size");
  known.generation = number("QM-Log-Generation");
  known.state = answer.headers.get("QM-Job-State");
  known.ended = answer.headers.get("QM-Job-Ended") === "1";
  return { start: number("QM-Log-Start"), bytes, anew: anew || known.size < view.end };
}

/** One thing after the other. A failure is told, and tried again by the next look. */
function soon(task) {
  busy = busy.then(task).then(
    () => (failures = 0),
    (error) => {
      failures += 1;
      known.message = error.final ? error.message : "The dashboard does not answer; trying again.";
      known.gone = Boolean(error.final);
    },
  );
  return busy.then(tell);
}

/** Show the piece of the log that begins at an offset (negative: from the end), from a line's beginning if it can be. */
async function jump(offset, keep = Infinity) {
  const piece = await fetchPiece(offset, PIECE);
  const skipped = piece.start > 0 ? partial(piece.bytes, keep) : 0;
  view.clear(piece.start + skipped);
  view.append(piece.bytes.subarray(skipped));
}

const toEnd = async () => {
  await jump(-PIECE);
  stick();
  await fill();
};

/** Show the byte at this offset, with what stands around it. */
export async function show(offset) {
  follow.checked = false;
  if (offset < view.start || offset >= view.end) {
    const start = Math.max(0, offset - PIECE / 2);
    await jump(start, offset - start + 1);
  }
  // Of a very long line only the beginning is shown: begin shortly before what is looked for.
  if (offset - view.lineStart(offset) > LONG) await jump(offset - 500, 1);
  const row = view.rowAt(offset);
  if (row) box.scrollTop += row.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
  return row;
}

async function loadEarlier() {
  if (view.start === 0) return;
  const limit = Math.min(PIECE, view.start);
  const piece = await fetchPiece(view.start - limit, limit);
  if (piece.anew || piece.bytes.length !== limit) return;
  const whole = piece.start > 0 ? partial(piece.bytes, limit - 1) : 0;
  const skipped = Math.max(whole, lastLines(piece.bytes, MOST_ROWS / 2)); // the lines being read must stay
  keepPlace(() => {
    view.prepend(piece.bytes.subarray(skipped));
    if (!follow.checked) view.trimEnd();
  });
}

/** Take what follows the window; a new log under the same name is shown from its end. */
async function loadLater() {
  const piece = await fetchPiece(view.end, follow.checked ? BACKLOG / 4 : PIECE);
  if (piece.anew) {
    known.anew = Date.now();
    await toEnd();
  } else if (follow.checked && known.size - view.end > BACKLOG) {
    await toEnd();
  } else if (piece.bytes.length) {
    add(piece.bytes);
  }
}

function add(bytes) {
  box.setAttribute("aria-live", follow.checked && bytes.length < 2000 ? "polite" : "off");
  view.append(bytes);
  if (follow.checked) {
    view.trimStart(1 / 4); // whoever reads the end needs few of the lines above, and drawing them all takes its time
    stick();
  } else {
    keepPlace(() => view.trimStart());
  }
}

/** Load earlier pieces while the box is not filled. */
async function fill() {
  for (let tries = 0; tries < TRIES && view.start > 0 && box.scrollHeight <= box.clientHeight; tries += 1) {
    await loadEarlier();
    if (follow.checked) stick();
  }
}

/** Show the last row. Heights of rows never seen are estimates, so once more when they have been drawn. */
function stick(again = true) {
  box.scrollTop = box.scrollHeight;
  lastTop = box.scrollTop;
  if (again) requestAnimationFrame(() => follow.checked && stick(false));
}

/** Change rows above or below without moving those that are being read. */
function keepPlace(change) {
  const row = view.rowAt(view.offsetAt(box.getBoundingClientRect().top));
  const before = row?.getBoundingClientRect().top ?? 0;
  change();
  if (row?.isConnected) box.scrollTop += row.getBoundingClientRect().top - before;
  lastTop = box.scrollTop;
}

// --- following -------------------------------------------------------------------------------------------------

/** Look whether there is more. While following is paused only the size and the state are asked for. */
async function look() {
  known.message = "";
  if (!follow.checked) {
    const piece = await fetchPiece(view.end, 0);
    if (piece.anew) known.message = "A new attempt has begun; follow to see its log.";
    return;
  }
  await loadLater();
  for (let turns = 0; turns < TRIES && follow.checked && view.end < known.size; turns += 1) {
    await new Promise((resolve) => setTimeout(resolve)); // let the page answer its reader
    await loadLater();
  }
}

function schedule() {
  clearTimeout(timer);
  const over = known.gone || (known.ended && failures === 0 && (view.end >= known.size || !follow.checked));
  if (!written || over || document.hidden) return;
  const pace = ["running", "paused", "submitted"].includes(known.state) || known.ended ? POLL : SLOW_POLL;
  timer = setTimeout(() => soon(look), Math.min(15000, pace * 2 ** failures));
}

const short = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(4, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
};

/** Say below the log what is shown, and plan the next look. */
function tell() {
  const parts = [known.size ? short(known.size) : "The log is empty so far"];
  if (view.start > 0 || view.end < known.size) parts.push(`here ${short(view.end - view.start)} from ${short(view.start)} on`);
  if (!written || known.ended) parts.push(known.ended ? `the job has ended (${known.state})` : "");
  else parts.push(follow.checked ? "following" : "not following");
  if (!follow.checked && written && view.end < known.size) parts.push(`${short(known.size - view.end)} below`);
  if (Date.now() - known.anew < 15000) parts.push("a new attempt has begun: this is its log");
  const text = known.message || parts.filter(Boolean).join(" · ");
  if (said.textContent !== text) said.textContent = text;
  earlier.hidden = view.start === 0;
  earlier.textContent = `Load earlier lines (${short(view.start)} above)`;
  schedule();
}

// --- the reader ------------------------------------------------------------------------------------------------

const distance = () => box.scrollHeight - box.scrollTop - box.clientHeight;

function onScroll() {
  const up = box.scrollTop < lastTop;
  lastTop = box.scrollTop;
  if (up && follow.checked && distance() > 30) {
    follow.checked = false;
    tell();
  }
  if (up && box.scrollTop < NEAR && view.start > 0) soon(loadEarlier);
  else if (!up && !follow.checked && distance() < NEAR) atBottom();
}

function atBottom() {
  if (view.end < known.size) soon(loadLater);
  else if (written && !known.ended && distance() < 3) setFollow(true);
}

function setFollow(on) {
  follow.checked = on;
  if (on) soon(known.size - view.end > PIECE ? toEnd : look).then(stick);
  else tell();
}

const search = new Search({
  section,
  rows,
  name,
  show: (offset) => {
    let row = null;
    return soon(async () => (row = await show(offset))).then(() => row);
  },
  top: () => view.offsetAt(box.getBoundingClientRect().top),
  size: () => known.size,
});

function setWrap(on) {
  box.classList.toggle("wrap", on);
  document.getElementById("log-wrap").checked = on;
  if (follow.checked) stick();
}

const toBeginning = () => {
  follow.checked = false;
  soon(() => (view.start === 0 ? null : jump(0))).then(() => (box.scrollTop = 0));
};

const KEYS = {
  f: () => setFollow(!follow.checked),
  w: () => setWrap(!box.classList.contains("wrap")),
  n: () => search.go(false),
  N: () => search.go(true),
  "/": () => search.focus(),
  Home: toBeginning,
  End: () => (known.ended || !written ? soon(toEnd) : setFollow(true)),
};

function begin() {
  earlier.type = "button";
  earlier.hidden = true;
  rows.className = "log-rows";
  document.getElementById("log-tools").hidden = false;
  document.getElementById("log-begin").addEventListener("click", toBeginning);
  document.getElementById("log-end").addEventListener("click", KEYS.End);
  document.getElementById("log-wrap").addEventListener("change", (event) => setWrap(event.target.checked));
  follow.addEventListener("change", () => setFollow(follow.checked));
  follow.closest("label").hidden = !written;
  earlier.addEventListener("click", () => soon(loadEarlier));
  box.addEventListener("scroll", onScroll, { passive: true });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  new ResizeObserver(() => follow.checked && stick()).observe(box);
  document.addEventListener("visibilitychange", () => document.hidden || soon(look));
  document.addEventListener("qm:refreshed", () => {
    const state = document.querySelector('[data-live="job-head"] .state').textContent;
    if (state !== known.state && !known.gone) soon(look); // retried, perhaps: then there is something to follow again
  });
  soon(async () => {
    await jump(-PIECE);
    box.replaceChildren(earlier, rows);
    stick();
    await fill();
  });
}

begin();
