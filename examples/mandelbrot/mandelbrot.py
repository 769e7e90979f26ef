"""Draw the Mandelbrot set into a PNG file, rows shared out among NB_PROC processes:  mandelbrot.py FILE"""

import math
import multiprocessing
import os
import struct
import sys
import zlib

WIDTH, HEIGHT = 720, 480
LEFT, RIGHT, TOP = -2.2, 1.0, 1.0667
ITERATIONS = 240
INSIDE = (6, 6, 18)


def escape_time(c):
    """How soon z -> z*z + c leaves for infinity, as a smooth number; None if it has not within ITERATIONS."""
    # The two largest parts of the set are known by formula, and would take the longest to find out.
    q = (c.real - 0.25) ** 2 + c.imag**2
    if q * (q + c.real - 0.25) <= c.imag**2 / 4 or abs(c + 1) <= 0.25:
        return None
    z = 0j
    for n in range(ITERATIONS):
        z = z * z + c
        if z.real * z.real + z.imag * z.imag > 64:
            return n + 1 - math.log2(math.log(abs(z)))
    return None


def colour(time):
    """Red, green and blue from 0 to 255: three waves out of step, slower and slower outwards."""
    if time is None:
        return INSIDE
    phase = 1.6 * math.sqrt(max(time, 0.0)) + 3.4
    return tuple(int(127.5 * (1 + math.cos(phase + shift))) for shift in (0.0, -0.6, -1.3))


def row(y):
    """One line of the picture as PNG wants it: a 0 (no filter), then three bytes a pixel."""
    step = (RIGHT - LEFT) / WIDTH
    line = bytearray(1)
    for x in range(WIDTH):
        line.extend(colour(escape_time(complex(LEFT + x * step, TOP - y * step))))
    return bytes(line)


def png(rows):
    """The bytes of a PNG file (RFC 2083): signature, header, picture, end."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    picture = zlib.compress(b"".join(rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", picture) + chunk(b"IEND", b"")


def report(done):
    """Tell QM how far the work is; the last line of the file counts."""
    path = os.environ.get("QM_PROGRESS")
    if path:
        with open(path, "a", encoding="utf-8") as progress:
            print(f"{done / HEIGHT:.2f} row {done} of {HEIGHT}", file=progress)


def main():
    processes = int(os.environ.get("NB_PROC", "1"))
    rows = []
    with multiprocessing.Pool(processes) as pool:
        for line in pool.imap(row, range(HEIGHT), chunksize=8):
            rows.append(line)
            if len(rows) % 8 == 0:
                report(len(rows))
    with open(sys.argv[1], "wb") as file:
        file.write(png(rows))
    print(f"{sys.argv[1]}: {WIDTH} x {HEIGHT}, drawn by {processes} processes")


if __name__ == "__main__":
    main()
