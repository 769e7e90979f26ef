/**
 * What a terminal would show of a program's output, one line at a time.
 *
 * Invariants: text may come in pieces cut anywhere, also inside an escape sequence; the time is linear in the
 * text; a line keeps at most WIDEST characters, however long it is; what comes out is text and style words,
 * never markup. No DOM is used here, so that it can be tested by itself.
 *
 * Understood: carriage return, backspace, tab; ECMA-48 `SGR` (colours, bold, dim, italic, underline, inverse,
 * struck out, reset), erase in line, and movements within the line. Other sequences are removed. Movements to
 * other lines are removed too: what redraws several lines shows each of them again.
 */

import {PLAIN, styled} from "./sgr.js";

export const WIDEST = 8000;

const CONTROL = /[\x00-\x1f\x7f-\x9f]/;
const CONTROLS = /[\x00-\x1f\x7f-\x9f]/g;
const PAIR = /[\ud800-\udfff]/;  // characters of two UTF-16 units: columns are not the text's length then
const ENOUGH = 128;  // characters of a control sequence's parameters that are kept; real ones have some twenty

export class Line {
  constructor() {
    this.reset();
  }

  /** Empty, as at the beginning of a line. Colours go on from line to line, as in a terminal. */
  reset() {
    this.text = "";     // while nothing but plain text came: the whole line
    this.cells = null;  // otherwise: one [character, style] a column
    this.column = 0;
    this.hidden = 0;    // characters behind WIDEST
  }

  /** Write text without control characters at the cursor, over what stands there. A column is a code point. */
  put(text, style) {
    if (this.column >= WIDEST) {
      this.column += text.length;
    } else if (!this.cells && style === PLAIN && this.column === this.text.length && !PAIR.test(text)) {
      this.text += text.slice(0, WIDEST - this.column);
      this.column += text.length;
    } else {
      this.column = this.overwrite(text, style);
    }
    this.hidden = Math.max(this.hidden, this.column - WIDEST);
  }

  /** Returns the column behind it. */
  overwrite(text, style) {
    const cells = this.split();
    let at = this.column;
    let used = 0;
    while (cells.length < at) {
      cells.push([" ", PLAIN]);
    }
    for (const character of text) {
      if (at >= WIDEST) {
        break;
      }
      cells[at++] = [character, style];
      used += character.length;
    }
    return at + text.length - used;
  }

  split() {
    this.cells ??= Array.from(this.text, (character) => [character, PLAIN]);
    return this.cells;
  }

  /** ECMA-48 EL: 0 from the cursor to the end, 1 up to the cursor, 2 the whole line. */
  erase(what) {
    const cells = this.split();
    if (what === 1) {
      cells.fill([" ", PLAIN], 0, Math.min(cells.length, this.column + 1));
    } else if (what === 0 || what === 2) {
      cells.length = what ? 0 : Math.min(cells.length, this.column);
      this.hidden = what ? 0 : Math.max(0, this.column - WIDEST);
    }
  }

  /** The line as runs of one style: [[text, style], …]. */
  runs() {
    if (!this.cells) {
      return this.text ? [[this.text, PLAIN]] : [];
    }
    const runs = [];
    let style = null;
    let start = 0;
    this.cells.forEach((cell, at) => {
      if (cell[1] !== style) {
        if (at > start) {
          runs.push([joined(this.cells, start, at), style]);
        }
        [start, style] = [at, cell[1]];
      }
    });
    if (this.cells.length > start) {
      runs.push([joined(this.cells, start, this.cells.length), style]);
    }
    return runs;
  }
}

function joined(cells, start, end) {
  let text = "";
  for (let at = start; at < end; at++) {
    text += cells[at][0];
  }
  return text;
}

export class Terminal {
  constructor() {
    this.line = new Line();
    this.style = PLAIN;
    this.state = "text";  // or: escape, csi, string (of OSC, DCS, …), string-escape, charset
    this.parameters = "";
  }

  /** Begin a new line; what an escape sequence left unfinished ends here. */
  newLine() {
    this.line.reset();
    this.state = "text";
  }

  /** Take text without line feeds. */
  write(text) {
    let at = 0;
    while (at < text.length) {
      at = this.state === "text" ? this.plain(text, at) : this.sequence(text, at);
    }
  }

  plain(text, at) {
    CONTROLS.lastIndex = at;
    const next = CONTROLS.exec(text);
    const end = next ? next.index : text.length;
    if (end > at) {
      this.line.put(at === 0 && end === text.length ? text : text.slice(at, end), this.style);
    }
    if (next) {
      this.control(text[end]);
    }
    return end + 1;
  }

  control(character) {
    const line = this.line;
    if (character === "\r") {
      line.column = 0;
    } else if (character === "\b") {
      line.column = Math.max(0, Math.min(line.column, WIDEST) - 1);
    } else if (character === "\t") {
      line.put("\t", this.style);
    } else if (character === "\x1b") {
      this.state = "escape";
    }
  }

  /** Take what belongs to an escape sequence; returns where to go on. */
  sequence(text, at) {
    if (this.state === "string") {
      const rest = /[\x07\x1b\r]/g;
      rest.lastIndex = at;
      const end = rest.exec(text);
      if (!end) {
        return text.length;
      }
      this.state = end[0] === "\x1b" ? "string-escape" : "text";
      return end[0] === "\r" ? end.index : end.index + 1;
    }
    const character = text[at];
    if (this.state === "escape") {
      return this.escape(character, at);
    }
    if (this.state === "csi") {
      return this.controlSequence(character, at);
    }
    this.state = this.state === "string-escape" && character !== "\\" ? "escape" : "text";
    return this.state === "escape" ? at : at + 1;
  }

  escape(character, at) {
    if (character === "[") {
      [this.state, this.parameters] = ["csi", ""];
    } else if ("]PX^_".includes(character)) {
      this.state = "string";
    } else if (character >= " " && character <= "/") {
      this.state = "charset";  // ESC ( B: one character follows
    } else {
      this.state = "text";
      return CONTROL.test(character) || character > "~" ? at : at + 1;
    }
    return at + 1;
  }

  controlSequence(character, at) {
    if (character >= "@" && character <= "~") {
      this.state = "text";
      this.obey(character);
    } else if (character >= " " && character <= "?") {
      if (this.parameters.length < ENOUGH) {
        this.parameters += character;
      }
    } else {
      this.state = "text";  // no control sequence after all
      return at;
    }
    return at + 1;
  }

  obey(final) {
    if (/[^0-9;:]/.test(this.parameters)) {
      return;  // private sequences: ?25l hides the cursor, and the like
    }
    const line = this.line;
    const first = parseInt(this.parameters, 10) || 0;
    const step = Math.max(1, first);
    if (final === "m") {
      this.style = styled(this.style, this.parameters);
    } else if (final === "K") {
      line.erase(first);
    } else if (final === "G") {
      line.column = Math.min(WIDEST, step - 1);
    } else if (final === "C") {
      line.column = Math.min(WIDEST, line.column + step);
    } else if (final === "D") {
      line.column = Math.max(0, Math.min(line.column, WIDEST) - step);
    }
  }
}
