"""The spool: the only code that lists, claims or moves job folders."""
