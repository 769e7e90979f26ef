"""Pickling by cloudpickle, noting whether byte code was written. Loading it takes 60 ms, so it is apart."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import cloudpickle


class Pickler(cloudpickle.Pickler):  # type: ignore[misc,unused-ignore]
    """`by_value`: has the byte code of any function or class been written?"""

    by_value = False

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented and isinstance(obj, FunctionType | type):
            self.by_value = True
        return reduced
