"""Who a visitor is, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a visitor may do; each role may do what the ones below may."""

    NOBODY = 0
    VIEW = 1
    OPERATE = 2


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request. `name` is "" for somebody who did not log in; `csrf` the token that their forms carry."""

    name: str
    role: Role
    csrf: str
