"""Requests and answers: what the command line and the dashboard ask of the daemon, as JSON files.

A request is `{verb, id, name, args}`; its answer has the same file name and says whether it was obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from qm.vocabulary.errors import RequestError

JOB_VERBS = ("kill", "hold", "release", "pause", "resume", "retry", "delete", "set")
QUEUE_VERBS = ("drain", "undrain")
MAX_REQUEST = 64 * 1024
"""Bytes; a larger request file is refused unread."""


@dataclass(frozen=True, slots=True)
class Request:
    """One wish. `name` is how the asking person called the job, `id` which job that was found to be.

    A folder without an id is meant by `name` alone, as `QM_dJobs/folder`.
    """

    verb: str
    id: str = ""
    name: str = ""
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: `message` is one sentence for the person who asked."""

    ok: bool
    message: str


def dump(value: Request | Answer) -> bytes:
    """The bytes of the file."""
    return json.dumps(asdict(value)).encode() + b"\n"


def load_request(data: bytes) -> Request:
    """Read a request; RequestError says what is wrong with it."""
    try:
        raw = json.loads(data)
        request = Request(
            verb=raw["verb"], id=raw.get("id", ""), name=raw.get("name", ""), args=dict(raw.get("args", {}))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise RequestError('a request is JSON: {"verb": …, "id": …, "name": …, "args": {…}}') from err
    texts = (request.verb, request.id, request.name, *request.args, *request.args.values())
    if not all(isinstance(text, str) for text in texts):
        raise RequestError("verb, id, name and all args of a request are texts")
    if request.verb not in JOB_VERBS + QUEUE_VERBS:
        raise RequestError(f"unknown verb {request.verb!r}; known: {', '.join(JOB_VERBS + QUEUE_VERBS)}")
    return request


def load_answer(data: bytes) -> Answer | None:
    """Read an answer, or None when it is not one."""
    try:
        raw = json.loads(data)
        return Answer(ok=bool(raw["ok"]), message=str(raw["message"]))
    except (ValueError, KeyError, TypeError):
        return None
