// What web/static/ansi.js makes of a program's output; run by test_web_ansi.py with the folder's address.
import assert from "node:assert/strict";
import { test } from "node:test";

const { Terminal, WIDEST } = await import(process.env.ANSI_JS);

function shown(...pieces) {
  const terminal = new Terminal();
  for (const piece of pieces) terminal.write(piece);
  return terminal.line.runs();
}

const text = (...pieces) => shown(...pieces).map(([part]) => part).join("");

test("plain text stays as it is, markup too", () => {
  assert.deepEqual(shown("a <b>&amp;</b> c"), [["a <b>&amp;</b> c", {}]]);
});

test("a carriage return overwrites, and what is longer stays", () => {
  assert.equal(text("10%", "\r20%", "\r100% done\rabc"), "abc% done");
  assert.equal(text("line\r"), "line");
});

test("erasing the line's end removes what was longer", () => {
  assert.equal(text("100% done\rabc\x1b[K"), "abc");
  assert.equal(text("abc\x1b[2K\rx"), "x");
  assert.equal(text("abcdef\x1b[3G\x1b[1K"), "   def");
});

test("a backspace goes one column back, never before the first", () => {
  assert.equal(text("\b\babc\b\bX"), "aXc");
});

test("colours and attributes become styles", () => {
  assert.deepEqual(shown("\x1b[1;31merr\x1b[0m ok"), [["err", { bold: true, fg: 1 }], [" ok", {}]]);
  assert.deepEqual(shown("\x1b[4;7;92;43mx\x1b[24;27;39;49my"), [["x", { underline: true, inverse: true, fg: 10, bg: 3 }], ["y", {}]]);
});

test("256 colours and true colour are understood, with semicolons and with colons", () => {
  for (const [sequence, fg] of [["38;5;9", 9], ["38;5;208", "#ff8700"], ["38;5;244", "#808080"], ["38;2;1;2;255", "#0102ff"], ["38:5:208", "#ff8700"], ["38:2::1:2:255", "#0102ff"], ["38:2:1:2:255", "#0102ff"]]) {
    assert.deepEqual(shown(`\x1b[${sequence}mx`), [["x", { fg }]], sequence);
  }
});

test("colours that are none are left out", () => {
  for (const sequence of ["38;5;300", "38;2;1;2", "38;5", "38", "38;2;a;b;c", "999", "48;5;-1"]) {
    for (const [, style] of shown(`\x1b[${sequence}mx`)) {
      for (const key of ["fg", "bg"]) {
        const value = style[key];
        assert.ok(value === undefined || Number.isInteger(value) || /^#[0-9a-f]{6}$/.test(value), `${sequence}: ${value}`);
      }
    }
  }
});

test("a colour goes on over the next line", () => {
  const terminal = new Terminal();
  terminal.write("\x1b[32mone");
  terminal.newLine();
  terminal.write("two");
  assert.deepEqual(terminal.line.runs(), [["two", { fg: 2 }]]);
});

test("other escape sequences are removed", () => {
  assert.equal(text("a\x1b[?25lb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x1b(Be\x1b=f\x1b[2Jg\x1bPq...\x1b\\h\x1b[10;20Hi"), "abcdefghi");
  assert.equal(text("a\x00b\x0bc\x7fd\u0085e\u009bf"), "abcdef");
});

test("a sequence may be cut anywhere", () => {
  const whole = "a\x1b[1;38;5;208mb\x1b]0;title\x1b\\c\x1b[0m\x1b(Bd\rX";
  const expected = shown(whole);
  for (let at = 0; at <= whole.length; at += 1) {
    assert.deepEqual(shown(whole.slice(0, at), whole.slice(at)), expected, `cut at ${at}`);
  }
});

test("an unfinished sequence does not swallow the next line", () => {
  for (const start of ["\x1b]0;title", "\x1b[31", "\x1b", "\x1bP"]) {
    const terminal = new Terminal();
    terminal.write(`a${start}`);
    terminal.newLine();
    terminal.write("next");
    assert.equal(terminal.line.runs()[0][0], "next");
  }
});

test("characters outside the basic plane take one column", () => {
  assert.equal(text("😀😀b\rX"), "X😀b");
  assert.equal(text("ab😀c\b\bX"), "abXc");
});

test("a line of ten million characters is cut, counted, and quick", () => {
  const terminal = new Terminal();
  const piece = "x".repeat(1 << 18);
  const begun = performance.now();
  for (let times = 0; times < 40; times += 1) terminal.write(piece);
  assert.ok(performance.now() - begun < 2000);
  assert.equal(terminal.line.runs()[0][0].length, WIDEST);
  assert.equal(terminal.line.hidden, 40 * piece.length - WIDEST);
});

test("a line of coloured or wide characters is cut, too", () => {
  for (const start of ["\x1b[31m", "😀"]) {
    const terminal = new Terminal();
    for (let times = 0; times < 40; times += 1) terminal.write(start + "y".repeat(10000));
    assert.equal([...terminal.line.runs().map(([part]) => part).join("")].length, WIDEST);
    assert.ok(terminal.line.hidden > 390000);
  }
});

test("a huge column is no huge line", () => {
  assert.ok(text("\x1b[999999999Gx\x1b[999999999Cy").length <= WIDEST);
});

test("ten million characters of progress bars are quick", () => {
  const terminal = new Terminal();
  const bars = "\r 45%|####      | 45/100 [00:12<00:15]".repeat(1000);
  const begun = performance.now();
  for (let size = 0; size < 1e7; size += bars.length) terminal.write(bars);
  assert.ok(performance.now() - begun < 10000);
  assert.equal(terminal.line.runs()[0][0], " 45%|####      | 45/100 [00:12<00:15]");
});
