"""The bodies of requests that programs send."""

from __future__ import annotations

from typing import Any

import bottle

from qm_web.site import refuse

LARGEST = bottle.BaseRequest.MEMFILE_MAX
"""Bytes of JSON that are read (Bottle's own limit)."""


def json_body() -> Any:
    """The body as JSON; 415 for another type (a form of another site could send that), 413 if it is too large, 400 if
    it cannot be read.
    """
    kind = bottle.request.content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        refuse(415, "send JSON: Content-Type: application/json")
    try:
        return bottle.request.json
    except RecursionError:
        refuse(400, "the JSON is nested too deeply")
    except bottle.HTTPError as err:
        if err.status_code == 413:
            refuse(413, f"the JSON is larger than {LARGEST >> 10} KiB")
        refuse(400, "the body is no JSON")
