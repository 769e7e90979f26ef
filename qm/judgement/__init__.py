"""Judgement: decisions on facts that are passed in. Pure: no clock, no file, no process is touched here."""
