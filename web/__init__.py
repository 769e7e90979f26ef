"""The dashboard: a page that shows the spool.

Installed as qm_web, since the import name `web` belongs to web.py.
"""
