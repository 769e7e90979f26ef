"""QM: a batch queue whose database is the file system. A job is a folder."""

from __future__ import annotations

__version__ = "1.0.0.dev0"
