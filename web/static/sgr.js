/**
 * Select Graphic Rendition (ECMA-48, 8.3.117): what a colour sequence makes of a style.
 *
 * A style is a frozen object: bold, dim, italic, underline, inverse, struck (true or missing), fg and bg (a
 * number 0..15 of the page's palette, or "#rrggbb"). Nothing else can get into it, whatever the sequence says.
 */

export const PLAIN = Object.freeze({});

const ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "struck"};
const OFF = {22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["struck"], 39: ["fg"], 49: ["bg"]};

/** The style after a sequence with these parameters, such as `1;31`. */
export function styled(style, parameters) {
  const next = {...style};
  const codes = parameters.split(";");
  for (let at = 0; at < codes.length; at++) {
    const parts = codes[at].split(":");
    const code = parseInt(parts[0], 10) || 0;
    if (code === 0) {
      Object.keys(next).forEach((key) => delete next[key]);
    } else if (code === 4 && parts[1] === "0") {
      delete next.underline;
    } else if (ON[code]) {
      next[ON[code]] = true;
    } else if (OFF[code]) {
      OFF[code].forEach((key) => delete next[key]);
    } else if (code === 38 || code === 48) {
      const [colour, used] = parts.length > 1 ? [extended(parts.slice(1), true), 0] : colourAfter(codes, at);
      at += used;
      if (colour !== null) {
        next[code === 38 ? "fg" : "bg"] = colour;
      }
    } else {
      basic(next, code);
    }
  }
  return Object.keys(next).length ? Object.freeze(next) : PLAIN;
}

function basic(next, code) {
  if (code >= 30 && code <= 37) {
    next.fg = code - 30;
  } else if (code >= 40 && code <= 47) {
    next.bg = code - 40;
  } else if (code >= 90 && code <= 97) {
    next.fg = code - 82;
  } else if (code >= 100 && code <= 107) {
    next.bg = code - 92;
  }
}

/** `38;5;N` and `38;2;R;G;B`: the colour, and how many codes it took. */
function colourAfter(codes, at) {
  const used = codes[at + 1] === "5" ? 2 : codes[at + 1] === "2" ? 4 : 0;
  return [used ? extended(codes.slice(at + 1, at + 1 + used), false) : null, used];
}

/** `5, N` or `2, R, G, B` (with colons a colour space may stand before R); null for what is none. */
function extended(parts, colons) {
  const numbers = (parts[0] === "2" && colons && parts.length > 4 ? parts.slice(2) : parts.slice(1)).map(Number);
  if (!numbers.length || numbers.some((number) => !(number >= 0 && number <= 255))) {
    return null;
  }
  if (parts[0] === "5") {
    return palette(numbers[0]);
  }
  return parts[0] === "2" && numbers.length >= 3 ? hex(numbers.slice(0, 3)) : null;
}

/** xterm's 256 colours: 16 of the theme, a cube of 6 x 6 x 6, 24 greys. */
function palette(number) {
  if (number < 16) {
    return number;
  }
  if (number >= 232) {
    const grey = 8 + 10 * (number - 232);
    return hex([grey, grey, grey]);
  }
  const level = (part) => (part ? 55 + 40 * part : 0);
  const cube = number - 16;
  return hex([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

function hex(numbers) {
  return "#" + numbers.map((number) => number.toString(16).padStart(2, "0")).join("");
}
