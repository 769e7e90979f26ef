"""The ids of jobs."""

from __future__ import annotations

import os

LENGTH = 12
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_id() -> str:
    """12 random base-32 characters (RFC 4648, lower case): 60 bits, no counter."""
    number = int.from_bytes(os.urandom(8), "big")
    return "".join(ALPHABET[number >> shift & 31] for shift in range(0, 5 * LENGTH, 5))


def is_id(text: str) -> bool:
    """Could this be the id of a job?"""
    return len(text) == LENGTH and set(text) <= set(ALPHABET)
