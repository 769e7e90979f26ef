"""`python tools/screenshots.py [FOLDER]`: make the pictures of the dashboard in docs/images anew.

A throw-away spool gets ended jobs that are made up, jobs that run and jobs that wait; Chromium takes the pictures.
Needs what `make test-browser` needs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from browser.conftest import QUIET, chromium_program  # noqa: E402
from harness import TestSpool, until  # noqa: E402
from made_up import make_ended  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from webserver import WebServer  # noqa: E402

STEPS = """
i=0
while [ $i -lt {most} ]; do
    i=$((i+1)); echo "step $i / {most}"; python3 -c 'sum(range(4_000_000))'; sleep {pause}
done
"""


def main() -> None:
    """Make the pictures."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        spool = TestSpool(Path(folder) / "spool")
        spool.configure(MaxNbProcessors=3)
        make_ended(str(spool.root), 340, days=2)
        spool.start()
        web = WebServer(spool, Licence_to_kill=True, Delete_Jobs=True, Refresh_Rate=1)
        try:
            fill(spool)
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=chromium_program(), args=list(QUIET))
                page = chromium.new_page(viewport={"width": 1280, "height": 860})
                take(page, web, spool, target)
                chromium.close()
        finally:
            web.stop()
            spool.close()


def fill(spool: TestSpool) -> None:
    """Jobs that run, with progress, and jobs that wait."""
    spool.drop("mandelbrot", STEPS.format(most=60, pause=0.6), info="4000 x 4000 points, zoom 12")
    spool.drop("align_reads", STEPS.format(most=90, pause=0.9), info="sample 17 of 24")
    spool.drop(
        "correlate",
        "sleep 0.$((QM_ARRAY_TASK_ID % 7 + 3)); test $((QM_ARRAY_TASK_ID % 31)) != 17",
        array="0-199",
        priority=9,
        info="200 slices of both halves",
    )
    until(lambda: (spool.jobs / "correlate").exists(), "the array to start")
    for name, nb_proc, priority, info in (
        ("train_net", 3, 5, "learning rate 0.003"),
        ("fit_model", 1, 0, "third try, with priors"),
        ("segment_cells", 2, 0, "plate B7"),
        ("count_primes", 1, -5, "up to 5,000,000"),
    ):
        spool.drop(name, "sleep 60", nb_proc=nb_proc, priority=priority, info=info)
    spool.drop("render", "sleep 60", hold="yes", info="when the scene is final")
    until(lambda: len(list((spool.jobs / "mandelbrot" / ".qm").glob("usage.csv"))) == 1, "usage to be measured")
    time.sleep(20)  # a plot with more than two points


def take(page: Page, web: WebServer, spool: TestSpool, target: Path) -> None:
    """One picture a page."""
    key = spool.record(spool.jobs / "mandelbrot")["id"]
    array = spool.record(spool.jobs / "correlate")["id"]
    for name, address in (
        ("overview", "/"),
        ("job", f"/job/{key}"),
        ("array", f"/job/{array}"),
        ("timeline", "/timeline"),
        ("statistics", "/statistics"),
        ("submit", "/submit"),
    ):
        page.goto(web.url + address)
        page.wait_for_timeout(1500)
        page.screenshot(path=str(target / f"{name}.png"))
        print(target / f"{name}.png")


if __name__ == "__main__":
    main()
