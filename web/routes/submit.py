"""Bringing jobs in from a browser: archives, folders (packed by the page) and typed commands.

Invariant: who may not operate sends nothing; what is sent is checked as `qm check` does before it is in the queue; and
nothing of the dashboard's own environment reaches a job.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import quote

import bottle

from qm.spool.machine import usable_processors
from qm.spool.submission import Submitted, check_name, submit_script, tidy_name
from qm.spool.unpacking import Limits
from qm.spool.uploads import SUFFIXES, submit_archive
from qm.vocabulary.errors import EX_TEMPFAIL, JobFileError, QMError
from qm.vocabulary.jobfile import JobFile, read_job_file
from qm_web import said, words
from qm_web.gate.roles import Role
from qm_web.routes.bodies import json_body
from qm_web.site import Site, as_json, refuse

FIELDS = ("name", "command", "nb_proc", "mem", "priority", "info", "hold")
WORDS = {str: "a text", int: "a whole number", bool: "true or false"}
KINDS = {"nb_proc": (int, str), "mem": (int, str), "priority": (int, str), "hold": (bool, str)}
"""What JSON may have for a field; for the others, a text."""
LONGEST_COMMAND = 64 << 10
"""Characters; longer ones are programs, and belong into a file."""
LONGEST_INFO = 200
"""Characters of a command that stand for it where it was given no description."""

Done = tuple[Submitted, list[str]]


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the addresses of this module."""
    app.get("/submit", callback=lambda: page(site))
    app.post("/submit", callback=lambda: form(site))
    app.post("/api/v1/jobs", callback=lambda: upload(site))
    app.post("/api/v1/commands", callback=lambda: command(site))


# --- the page --------------------------------------------------------------------------------------------------


def page(site: Site, error: str = "", values: Mapping[str, str] | None = None) -> str:
    """GET /submit; and what a form is answered that cannot be obeyed, with what was typed into it."""
    return site.page(
        "submit.tpl",
        error=error,
        values=values or {},
        suffixes=SUFFIXES,
        job_files=site.settings.job_files,
        limit=processors(site),
        down=site.view.daemon() is None,
    )


def form(site: Site) -> str:
    """POST /submit, of a browser without scripts: an archive as multipart/form-data, else a command."""
    site.access.check_form(bottle.request)
    site.need(Role.OPERATE)
    values: dict[str, str] = {}
    try:
        if bottle.request.content_type.startswith("multipart/"):
            job, notes = from_file(site, bottle.request.files.get("archive"))
        else:
            values = {key: bottle.request.forms.getunicode(key) or "" for key in FIELDS}
            job, notes = from_fields(site, values)
    except QMError as err:
        bottle.response.status = 503 if err.exit_status == EX_TEMPFAIL else 400
        return page(site, str(err), values)
    said.leave(". ".join([f"{words.printable(job.name)} is in the queue", *notes]))
    bottle.response.status = 303
    bottle.response.set_header("Location", address_of(job))
    return ""


def from_file(site: Site, upload: Any) -> Done:
    """The archive of a form."""
    if not isinstance(upload, bottle.FileUpload) or not upload.raw_filename:
        raise QMError(f"choose an archive first: {', '.join(SUFFIXES)}")
    upload.file.seek(0, 2)
    check_size(site, upload.file.tell())
    return from_archive(site, upload.file, str(upload.raw_filename))


# --- JSON ------------------------------------------------------------------------------------------------------


def upload(site: Site) -> str:
    """POST /api/v1/jobs?name=: the body is an archive, `name` its name."""
    site.access.check_form(bottle.request)
    site.need(Role.OPERATE)
    with received(site) as file:
        job, notes = from_archive(site, file, bottle.request.query.getunicode("name") or "")
    return created(job, notes)


def command(site: Site) -> str:
    """POST /api/v1/commands: a JSON object with `command`, and perhaps the others of FIELDS."""
    site.access.check_form(bottle.request)
    site.need(Role.OPERATE)
    given = json_body()
    if not isinstance(given, dict):
        refuse(400, 'send a JSON object: {"command": "echo hello"}')
    unknown = sorted(set(given) - set(FIELDS))
    if unknown:
        refuse(400, f"{words.printable(unknown[0])[:80]!r} is not known; accepted: {', '.join(FIELDS)}")
    values = {}
    for key, value in given.items():
        if value is not None and type(value) not in KINDS.get(key, (str,)):
            refuse(400, f"{key} must be {' or '.join(WORDS[kind] for kind in KINDS.get(key, (str,)))}")
        values[key] = "" if value is None or value is False else "yes" if value is True else str(value)
    job, notes = from_fields(site, values)
    return created(job, notes)


def created(job: Submitted, notes: list[str]) -> str:
    """201, and what came of it."""
    bottle.response.set_header("Location", address_of(job))
    return as_json({"name": job.name, "id": job.id, "notes": notes}, 201)


# --- what both do ----------------------------------------------------------------------------------------------


def from_archive(site: Site, file: BinaryIO, name: str) -> Done:
    """Unpack, check and queue it. QMError."""
    web = site.settings.web
    limits = Limits(web.max_unpacked, web.max_files)
    job, job_file, notes = submit_archive(site.view.paths, file, name, site.settings.job_files, limits)
    return job, [*notes, *remarks(site, job_file)]


def from_fields(site: Site, values: Mapping[str, str]) -> Done:
    """Make a job around a command, and queue it. QMError."""
    text = values.get("command", "").replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    name = values.get("name", "").strip()
    if not text.strip():
        raise JobFileError("there is no command; type one, for instance: echo hello")
    if len(text) > LONGEST_COMMAND:
        raise JobFileError("the command is longer than 64 KiB; put it into a script in a folder, and send that")
    if name:
        check_name(name)
    keys = {key: value for key in FIELDS[2:] if (value := values.get(key, "").strip())}
    keys.setdefault("info", summary(text))
    script = script_of(text, keys)
    job_file = read_job_file("job.sh", script)
    job = submit_script(site.view.paths, name or name_of(text), script, None)
    return job, [*job_file.notes, *remarks(site, job_file)]


def script_of(text: str, keys: Mapping[str, str]) -> bytes:
    """A job.sh that runs the text; keys that the text has itself, in `#QM` lines at its top, come after ours."""
    for key, value in keys.items():
        if not value.isprintable():
            raise JobFileError(f"{key} must be one line of text: {words.printable(value)[:80]!r}")
    head, _, rest = text.partition("\n") if text.startswith("#!") else ("#!/bin/sh", "", text)
    options = "".join(f"#QM {key} = {value}\n" for key, value in keys.items())
    try:
        return f"{head}\n{options}{rest}\n".encode()
    except UnicodeEncodeError as err:
        raise JobFileError("the command is no text: it has characters that Unicode does not have") from err


def summary(text: str) -> str:
    """What stands for a command in lists: its first line that does something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("#")), lines[0])
    return words.printable(line)[:LONGEST_INFO].strip()


def name_of(text: str) -> str:
    """A job's name made from its command: that of the program."""
    return tidy_name(summary(text).split()[0].rpartition("/")[2], "command")


def remarks(site: Site, job_file: JobFile) -> list[str]:
    """What somebody who has just sent a job should know."""
    found = []
    wanted, limit = job_file.options.nb_proc, processors(site)
    if wanted > limit:
        found.append(f"nb_proc {wanted} is more than MaxNbProcessors {limit} and will be lowered to it")
    if site.view.daemon() is None:
        found.append("no QueueManager is running; the job waits until one is started")
    elif site.view.draining():
        found.append("the queue is draining; the job waits until somebody says undrain")
    return found


def processors(site: Site) -> int:
    """How many processors all jobs may have together."""
    return site.settings.max_processors or usable_processors()


def address_of(job: Submitted) -> str:
    """The job's page."""
    return f"{quote(str(bottle.request.environ.get('SCRIPT_NAME', '')))}/job/{quote(job.id)}"


@contextmanager
def received(site: Site) -> Iterator[BinaryIO]:
    """The body as a file that can be sought in; waitress has it in one already. HTTPError 400 or 413."""
    length = bottle.request.content_length
    check_size(site, length)
    if length <= 0:
        refuse(400, f"the request has no body; it must be an archive: {', '.join(SUFFIXES)}")
    stream: BinaryIO = bottle.request.environ["wsgi.input"]
    if hasattr(stream, "seekable") and stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as file:
        while length > 0 and (piece := stream.read(min(length, 1 << 18))):
            file.write(piece)
            length -= len(piece)
        yield file


def check_size(site: Site, size: int) -> None:
    """HTTPError 413 for more than Max_Upload."""
    most = site.settings.web.max_upload
    if size > most:
        told = f"{words.size_text(size)} are more than the {words.size_text(most)} that may be uploaded here"
        refuse(413, f"{told} (Max_Upload in QMserv.cfg)")
