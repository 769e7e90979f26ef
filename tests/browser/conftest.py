"""A real browser: Debian's Chromium, driven by Playwright, and nothing that asks for addresses outside this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

QUIET = (
    "--no-sandbox",  # the tests may run as root, where Chromium's sandbox does not
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 30_000
"""Milliseconds that a condition on a page is waited for."""


def chromium_program() -> str:
    """The browser of this machine."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (program := shutil.which(name)) is not None:
            return program
    raise FileNotFoundError("no Chromium here; Debian, Ubuntu: apt install chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a process."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_program(), args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens an address; an error in a script of the page, or a breach of its CSP, fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_it(url: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _is_wrong(said.type, said.text) else None)
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not wrong


def _is_wrong(kind: str, text: str) -> bool:
    """Answers such as 404 or 503 are reported by the browser too, and may be what a test wants."""
    return kind == "error" and not text.startswith("Failed to load resource")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Where a test puts what it downloads."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder
