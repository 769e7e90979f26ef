"""Asking the daemon as `qm` does, without starting a program for it."""

from __future__ import annotations

from harness import TestSpool

from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.vocabulary.requests import Answer, Request


def ask(spool: TestSpool, verb: str, name: str = "", **args: str) -> Answer:
    """Ask, and return the answer."""
    return requests.ask(SpoolPaths(str(spool.root)), Request(verb, name=name, args=args))


def granted(spool: TestSpool, verb: str, name: str = "", **args: str) -> None:
    """Ask, and be obeyed."""
    answer = ask(spool, verb, name, **args)
    assert answer.ok, answer.message
