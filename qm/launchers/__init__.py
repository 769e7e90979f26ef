"""Launchers: how a claimed job becomes processes, and how these are watched and ended."""
