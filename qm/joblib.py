"""joblib's backend "qm": importing this registers it, `joblib.parallel_config("qm")` chooses it."""

from __future__ import annotations

from qm.api.joblib import *  # noqa: F403
