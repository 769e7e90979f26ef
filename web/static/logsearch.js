// Searching a log that is not in the page: the server looks, a bounded piece at a time, and the match is shown.

const MOST_MARKS = 200; // matches that are marked in one row

export class Search {
  /** `parts`: section, rows, name, show(offset) -> row, top() -> offset of the first row seen, size(). */
  constructor(parts) {
    this.parts = parts;
    this.input = document.getElementById("log-q");
    this.last = null; // { text, at } of the newest match
    this.turn = 0;
    document.getElementById("log-search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(event.submitter?.value === "back");
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) {
        event.preventDefault();
        this.go(true);
      } else if (event.key === "Escape") {
        this.turn += 1;
        this.clear();
        this.tell("");
      }
    });
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Go to the next match, or with `back` to the one before; past the end it goes on at the other end. */
  async go(back) {
    const text = this.input.value;
    const turn = (this.turn += 1);
    if (!text) return this.focus();
    const from = this.last?.text === text ? this.last.at + (back ? 0 : 1) : this.parts.top();
    try {
      let at = await this.find(text, from, back, turn);
      let around = "";
      if (at === null && turn === this.turn) {
        around = back ? "found by going on from the end" : "found by going on from the beginning";
        at = await this.find(text, back ? this.parts.size() : 0, back, turn);
      }
      if (turn !== this.turn) return undefined;
      if (at === null) return this.tell("not found", true);
      this.last = { text, at };
      const row = await this.parts.show(at);
      this.mark(row, text);
      return this.tell(around);
    } catch (error) {
      return this.tell(error.message, true);
    }
  }

  /** The offset of a match, or null; a newer search ends this one. */
  async find(text, offset, back, turn) {
    let further = offset;
    while (further !== null && turn === this.turn) {
      const query = new URLSearchParams({ q: text, offset: further, back: back ? 1 : 0, log: this.parts.name });
      const answer = await fetch(`${this.parts.section.dataset.api}/search?${query}`, { cache: "no-store" });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      if (found.at !== null) return found.at;
      further = found.further;
      if (further !== null) this.tell(`searching, at ${Math.round((100 * further) / found.size)}%`);
    }
    return null;
  }

  clear() {
    this.parts.rows.querySelector(".log-hit")?.classList.remove("log-hit");
    globalThis.CSS?.highlights?.delete("log-match");
  }

  /** Mark a row and, where the browser can, the text in it. */
  mark(row, text) {
    this.clear();
    if (!row) return;
    row.classList.add("log-hit");
    if (!globalThis.CSS?.highlights) return;
    const ranges = [];
    const wanted = text.toLowerCase();
    const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
    while (walker.nextNode() && ranges.length < MOST_MARKS) {
      const shown = walker.currentNode.nodeValue.toLowerCase();
      for (let at = shown.indexOf(wanted); at >= 0; at = shown.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, Math.min(at + wanted.length, walker.currentNode.nodeValue.length));
        ranges.push(range);
      }
    }
    CSS.highlights.set("log-match", new Highlight(...ranges));
  }

  tell(text, bad = false) {
    const said = document.getElementById("log-found");
    said.textContent = text;
    said.classList.toggle("bad", bad);
  }
}
