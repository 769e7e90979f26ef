"""What visitors ask of the daemon: kill, hold, release, pause, resume, retry, delete, set, drain, undrain.

Invariant: nothing is done to a job here. Every wish becomes a request file, as `qm VERB` leaves one, so the daemon
decides, and obeys later if it is down. Only a POST asks for anything, and only after the gates (`permit`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import bottle

from qm.vocabulary.requests import JOB_VERBS, MAX_REQUEST, QUEUE_VERBS, Request, dump
from qm.vocabulary.text import printable
from qm_web import said as notes
from qm_web.gate.access import Role
from qm_web.routes.asking import Wish, ask, counted, find, summary
from qm_web.routes.bodies import json_body
from qm_web.said import said
from qm_web.site import Site, as_json, refuse

__all__ = ["routes", "said"]

MOST_KEYS = 1000
"""Jobs that one request may name."""
LONGEST_KEY = 300
MOST_ARGS = 100
SHOWN = 200
"""Jobs that the page before a deletion lists by name."""

CONFIRMED = {
    "kill": "All processes of a running job are ended; a waiting job leaves the queue. "
    "The folders go to QM_lost+found with everything in them, from where the jobs can be retried.",
    "delete": "The folders are deleted with everything in them: job files, results and logs. This cannot be undone.",
}
"""The verbs that are asked about once more, and what is said then."""


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses by which something is asked for: one for forms, three for programs."""
    notes.prepare(app, site.now)
    app.post("/action", callback=lambda: by_form(site))
    app.post("/api/v1/actions", callback=lambda: by_json(site))
    for verb in QUEUE_VERBS:
        app.post(f"/api/v1/queue/{verb}", callback=lambda verb=verb: queue_by_json(site, verb))


# --- forms -------------------------------------------------------------------------------------------------


def by_form(site: Site) -> str:
    """A form of a page: ask, and lead back to where it was sent from; kill and delete are asked about first."""
    site.access.check_form(bottle.request)
    verb = "".join(fields("verb")[:1])
    if not fields("key") and verb in JOB_VERBS:
        notes.leave("No job was chosen.")
        return lead_to(back())
    wish = checked(verb, fields("key"), pairs(fields("args")))
    permit(site, wish.verb)
    if wish.verb in CONFIRMED and fields("confirm") != ["1"]:
        return confirmation(site, wish)
    outcomes = ask(site, wish)
    notes.leave(printable(summary(wish.verb, outcomes)))
    return lead_to("/" if is_gone(site, back()) else back())


def confirmation(site: Site, wish: Wish) -> str:
    """The page that names the jobs and asks once more."""
    jobs = [row for key in wish.keys if (row := find(site, key)) is not None]
    if not jobs:
        refuse(404, "none of these jobs is there any more")
    return site.page(
        "confirm.tpl",
        verb=wish.verb,
        jobs=jobs,
        most=SHOWN,
        counted=counted(len(jobs)),
        meaning=CONFIRMED[wish.verb],
        back=rooted(back()),
    )


def fields(name: str) -> list[str]:
    """The values of a form's field; bytes that are no UTF-8 become surrogates."""
    forms = bottle.request.forms
    values: list[str] = forms.getall(name)
    if not forms.recode_unicode:
        return values
    return [value.encode("latin-1").decode("utf-8", "surrogateescape") for value in values]


def pairs(values: Iterable[str]) -> dict[str, str]:
    """`key=value`, one or more lines a field, as `qm set` takes them."""
    found: dict[str, str] = {}
    for line in "\n".join(values).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key.strip()] = value.strip()
        elif line.strip():
            refuse(400, f"{line.strip()[:80]!r} is not key=value")
    return found


def back() -> str:
    """Where the form wants to lead: an address of this site, without the proxy's prefix; else the overview."""
    wanted = "".join(fields("back")[:1])
    root = str(bottle.request.environ.get("SCRIPT_NAME", ""))
    if root and wanted.startswith(root + "/"):
        wanted = wanted[len(root) :]
    # Browsers read `//host`, `/\host` and tabs or line ends within them as an address of another site.
    if not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable():
        return "/"
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or len(wanted) > 2000:
        return "/"
    return quote(wanted, safe="/%?&=+,;:@!$'()*~[]#", errors="surrogateescape")


def rooted(address: str) -> str:
    """An address of this site as browsers see it, behind the proxy's prefix."""
    return str(bottle.request.environ.get("SCRIPT_NAME", "")) + address


def lead_to(address: str) -> str:
    """Answer with 303: the browser fetches that page, and a reload of it asks for nothing again."""
    bottle.response.status = 303
    bottle.response.set_header("Location", rooted(address))
    bottle.response.set_header("Cache-Control", "no-store")
    return ""


def is_gone(site: Site, address: str) -> bool:
    """Is that a page of a job that has just been deleted, or got an id, and with it another address?"""
    _, job, key = [*address.split("/"), "", ""][:3]
    return job == "job" and find(site, key) is None


# --- programs ----------------------------------------------------------------------------------------------


def by_json(site: Site) -> str:
    """POST {"verb", "keys", "args"} → {"message", "results": [{"key", "name", "ok", "message"}]}."""
    site.need(Role.OPERATE)
    wish = wish_of(json_body())
    permit(site, wish.verb)
    outcomes = ask(site, wish)
    results = [outcome._asdict() for outcome in outcomes]
    return as_json({"message": summary(wish.verb, outcomes), "results": results})


def queue_by_json(site: Site, verb: str) -> str:
    """POST without a body, or with {} → {"ok", "message"}."""
    permit(site, verb)
    if bottle.request.content_length != 0 and json_body() != {}:
        refuse(400, f"{verb} takes nothing: send no body, or {{}}")
    (outcome,) = ask(site, Wish(verb))
    return as_json({"ok": outcome.ok, "message": outcome.message})


def wish_of(raw: Any) -> Wish:
    """The wish in a JSON body; 400 says what is wrong with it."""
    if not isinstance(raw, dict) or not isinstance(raw.get("verb"), str):
        refuse(400, 'send {"verb": …, "keys": […], "args": {…}}')
    unknown = sorted(set(raw) - {"verb", "keys", "args"})
    if unknown:
        refuse(400, f"{unknown[0][:80]!r} is not known here; known: verb, keys, args")
    keys, args = raw.get("keys", []), raw.get("args", {})
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        refuse(400, "keys is a list of texts")
    if not isinstance(args, dict) or not all(isinstance(value, str | int | float) for value in args.values()):
        refuse(400, 'args maps keys of a job file to texts or numbers: {"priority": "5"}')
    return checked(raw["verb"], keys, {key: _written(value) for key, value in args.items()})


def _written(value: Any) -> str:
    """A value as a job file would have it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


# --- both --------------------------------------------------------------------------------------------------


def checked(verb: str, keys: Sequence[str], args: Mapping[str, str]) -> Wish:
    """A wish within its bounds; 400 says which it leaves."""
    if verb not in (*JOB_VERBS, *QUEUE_VERBS):
        refuse(400, f"{verb[:80]!r} is no verb; known: {', '.join((*JOB_VERBS, *QUEUE_VERBS))}")
    if verb in QUEUE_VERBS and keys:
        refuse(400, f"{verb} is for the whole queue, not for single jobs")
    if verb in JOB_VERBS and not keys:
        refuse(400, f"say which jobs to {verb}")
    if len(keys) > MOST_KEYS:
        refuse(400, f"{len(keys)} jobs at once are too many; at most {MOST_KEYS} a request")
    if not all(0 < len(key) <= LONGEST_KEY for key in keys):
        refuse(400, f"a key has 1 to {LONGEST_KEY} characters")
    if args and verb != "set":
        refuse(400, f"{verb} takes no args; only set does")
    if verb == "set" and not 0 < len(args) <= MOST_ARGS:
        refuse(400, f"set takes 1 to {MOST_ARGS} args, such as priority=5")
    if len(dump(Request(verb, args=args))) > MAX_REQUEST // 2:
        refuse(400, f"the args are larger than {MAX_REQUEST // 2048} KiB")
    return Wish(verb, tuple(dict.fromkeys(keys)), args)


def permit(site: Site, verb: str) -> None:
    """403 unless this visitor may do that; says which key of QMserv.cfg forbids it to everybody."""
    site.need(Role.OPERATE)
    may = site.may()
    if verb == "kill" and not may["kill"]:
        refuse(403, "Licence_to_kill is off in QMserv.cfg: jobs cannot be killed from the dashboard")
    if verb == "delete" and not may["delete"]:
        refuse(403, "Delete_Jobs is off in QMserv.cfg: jobs cannot be deleted from the dashboard")
