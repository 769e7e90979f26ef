// A tar archive (POSIX.1-2001, pax) as a Blob made of headers and the files themselves: no file is read into memory,
// the browser reads them while it sends the Blob.

const BLOCK = 512;
const encoder = new TextEncoder();

/** Names as UTF-8; a lone surrogate, which is no text, becomes U+FFFD. */
const bytesOf = (text) => encoder.encode(text);

/** One block: name, mode, size, time (seconds) and type, with its checksum. */
function header(name, { mode, size, mtime, type }) {
  const block = new Uint8Array(BLOCK);
  const put = (at, bytes) => block.set(bytes, at);
  const octal = (at, length, value) => put(at, bytesOf(value.toString(8).padStart(length - 1, "0") + "\0"));
  put(0, name.slice(0, 100));
  octal(100, 8, mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size < 8 ** 11 ? size : 0);
  octal(136, 12, Math.min(Math.max(0, Math.floor(mtime)), 8 ** 11 - 1));
  put(148, bytesOf("        "));
  put(156, bytesOf(type));
  put(257, bytesOf("ustar\x0000"));
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, bytesOf(sum.toString(8).padStart(6, "0") + "\0 "));
  return block;
}

/** One line of a pax header, which begins with its own length. */
function record(key, value) {
  const rest = bytesOf(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  const whole = new Uint8Array(length);
  whole.set(bytesOf(String(length)));
  whole.set(rest, length - rest.length);
  return whole;
}

const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

/** The parts of one entry: {path, file} or, for a folder, {path}. */
function parts({ path, file, mode }) {
  const name = bytesOf(file ? path : `${path}/`);
  const size = file ? file.size : 0;
  const mtime = file ? file.lastModified / 1000 : Date.now() / 1000;
  const records = [];
  // eslint-disable-next-line no-control-regex
  if (name.length > 100 || /[^\x20-\x7e]/.test(path)) records.push(record("path", file ? path : `${path}/`));
  if (size >= 8 ** 11) records.push(record("size", size));
  const found = [];
  if (records.length) {
    const length = records.reduce((total, each) => total + each.length, 0);
    found.push(header(bytesOf("PaxHeader"), { mode: 0o644, size: length, mtime, type: "x" }), ...records, padding(length));
  }
  found.push(header(name, { mode: mode ?? (file ? 0o644 : 0o755), size, mtime, type: file ? "0" : "5" }));
  if (file) found.push(file, padding(size));
  return found;
}

/** The archive of these entries. */
export function pack(entries) {
  return new Blob([...entries.flatMap(parts), new Uint8Array(2 * BLOCK)], { type: "application/x-tar" });
}

/** Browsers do not tell which files may be run; those that begin as a program does (#! or ELF) are made so. */
export async function markPrograms(entries) {
  const look = async (entry) => {
    if (!entry.file || !entry.file.size) return;
    let begin;
    try {
      begin = new Uint8Array(await entry.file.slice(0, 4).arrayBuffer());
    } catch {
      throw new Error(`${entry.path} cannot be read`);
    }
    const isScript = begin[0] === 0x23 && begin[1] === 0x21;
    const isElf = begin[0] === 0x7f && begin[1] === 0x45 && begin[2] === 0x4c && begin[3] === 0x46;
    if (isScript || isElf) entry.mode = 0o755;
  };
  for (let at = 0; at < entries.length; at += 64) await Promise.all(entries.slice(at, at + 64).map(look));
  return entries;
}
