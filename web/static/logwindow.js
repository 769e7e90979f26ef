// The part of a log that is in the page: one contiguous window [start, end) of the file, as rows.
//
// Invariants: a row is a whole line unless the window begins or ends inside one; rows are made with textContent and
// classes only, never from markup; at most about MOST_BYTES and MOST_ROWS are kept, the far end goes first.
// Rows are kept in blocks, so that what scrolls out is removed and laid out in large pieces.

import { Terminal } from "./ansi.js";

export const MOST_BYTES = 4 << 20;
export const MOST_ROWS = 20000;

const BLOCK_ROWS = 250;
const BLOCK_BYTES = 64 << 10;
const LINE_FEED = 10;
const LINE_HEIGHT = 1.45; // em, as in qm.css

/** Rows of neighbouring lines; `starts` has the offset in the file at which each begins. */
class Block {
  constructor(start) {
    this.element = document.createElement("div");
    this.element.className = "log-block";
    this.start = start;
    this.end = start;
    this.starts = [];
  }

  /** How high it is taken to be until it has been drawn (qm.css: content-visibility). */
  estimate() {
    this.element.style.containIntrinsicHeight = `auto ${this.starts.length * LINE_HEIGHT}em`;
  }

  get full() {
    return this.starts.length >= BLOCK_ROWS || this.end - this.start >= BLOCK_BYTES;
  }
}

export class LogWindow {
  /** `element` receives the rows. */
  constructor(element) {
    this.element = element;
    this.clear(0);
  }

  /** Show nothing; what comes next begins at this offset. */
  clear(offset) {
    this.start = offset;
    this.blocks = [];
    this.rows = 0;
    this.element.replaceChildren();
    this.restart();
  }

  get end() {
    return this.blocks.length ? this.blocks[this.blocks.length - 1].end : this.start;
  }

  /** What comes at the end begins a line. */
  restart() {
    this.writer = { terminal: new Terminal(), decoder: new TextDecoder(), row: null };
  }

  /** Bytes that follow `end`. */
  append(bytes) {
    const blocks = this.write(bytes, this.end, this.writer, this.blocks[this.blocks.length - 1]);
    this.blocks.push(...blocks);
    this.element.append(...blocks.map((block) => block.element));
  }

  /** Bytes that end where the window begins. */
  prepend(bytes) {
    const start = this.start - bytes.length;
    const writer = { terminal: new Terminal(), decoder: new TextDecoder(), row: null };
    const blocks = this.write(bytes, start, writer, null);
    this.blocks.unshift(...blocks);
    this.element.prepend(...blocks.map((block) => block.element));
    this.start = start;
  }

  /** Make rows of bytes, into `block` while it has room, then into new ones, which are returned. */
  write(bytes, offset, writer, block) {
    const made = [];
    const touched = new Set();
    let at = 0;
    while (at < bytes.length) {
      if (!writer.row && (!block || block.full)) made.push((block = new Block(offset + at)));
      const feed = bytes.indexOf(LINE_FEED, at);
      const end = feed < 0 ? bytes.length : feed;
      if (!writer.row) {
        writer.row = block.element.appendChild(document.createElement("div"));
        block.starts.push(offset + at);
        this.rows += 1;
      }
      touched.add(block);
      writer.terminal.write(writer.decoder.decode(bytes.subarray(at, end), { stream: true }));
      at = feed < 0 ? end : end + 1;
      block.end = offset + at;
      if (feed >= 0) {
        writer.terminal.write(writer.decoder.decode());
        draw(writer.row, writer.terminal.line);
        writer.terminal.newLine();
        writer.row = null;
      }
    }
    if (writer.row) draw(writer.row, writer.terminal.line);
    for (const one of touched) one.estimate();
    return made;
  }

  overfull(share) {
    return this.blocks.length > 1 && (this.rows > MOST_ROWS * share || this.end - this.start > MOST_BYTES * share);
  }

  /** Let go of what is too much at the beginning: more than this `share` of what may be kept. */
  trimStart(share = 1) {
    while (this.overfull(share)) {
      const block = this.blocks.shift();
      block.element.remove();
      this.rows -= block.starts.length;
      this.start = this.blocks[0].start;
    }
  }

  /** Let go of what is too much at the end. */
  trimEnd() {
    while (this.overfull(1)) {
      const block = this.blocks.pop();
      block.element.remove();
      this.rows -= block.starts.length;
      this.restart();
    }
  }

  /** The row in which the byte at this offset stands, or null. */
  rowAt(offset) {
    const [block, row] = this.find(offset);
    return block ? block.element.children[row] : null;
  }

  /** Where the row with this byte begins; the offset itself if it is not in the window. */
  lineStart(offset) {
    const [block, row] = this.find(offset);
    return block ? block.starts[row] : offset;
  }

  find(offset) {
    const block = this.blocks.find((one) => one.start <= offset && offset < one.end);
    let row = block ? block.starts.length - 1 : 0;
    while (row > 0 && block.starts[row] > offset) row -= 1;
    return [block, row];
  }

  /** The offset at which the first row below this height (viewport pixels) begins. */
  offsetAt(top) {
    for (const block of this.blocks) {
      if (block.element.getBoundingClientRect().bottom <= top) continue;
      const rows = [...block.element.children];
      const row = rows.findIndex((one) => one.getBoundingClientRect().bottom > top);
      return row < 0 ? block.end : block.starts[row];
    }
    return this.end;
  }
}

/** How many bytes of a piece stand before its first whole line (or character, where no line ends before `keep`). */
export function partial(bytes, keep = bytes.length) {
  const feed = bytes.indexOf(LINE_FEED);
  if (feed >= 0 && feed < keep) return feed + 1;
  let at = 0;
  while (at < 3 && at < bytes.length && (bytes[at] & 0xc0) === 0x80) at += 1;
  return at;
}

/** Where the last `rows` whole lines of a piece begin. */
export function lastLines(bytes, rows) {
  let at = bytes.length - 1;
  for (let seen = 0; seen < rows && at > 0; seen += 1) at = bytes.lastIndexOf(LINE_FEED, at - 1);
  return at + 1;
}

/** Show a line of a terminal in a row. */
function draw(row, line) {
  const parts = line.runs().map(([text, style]) => span(text, style));
  if (line.hidden > 0) {
    const more = document.createElement("span");
    more.className = "log-more";
    more.textContent = ` … ${line.hidden.toLocaleString("en")} more characters`;
    parts.push(more);
  }
  if (parts.length === 1 && parts[0].nodeType === Node.TEXT_NODE) row.textContent = parts[0].nodeValue;
  else row.replaceChildren(...parts);
}

function span(text, style) {
  const keys = Object.keys(style);
  if (!keys.length) return document.createTextNode(text);
  const part = document.createElement("span");
  part.textContent = text;
  for (const key of keys) {
    if (key !== "fg" && key !== "bg") part.classList.add(`a-${key}`);
    else if (typeof style[key] === "number") part.classList.add(`a-${key}${style[key]}`);
    else part.style.setProperty(`--a-${key}`, style[key]);
  }
  return part;
}
