"""What every page is given: the settings, the spool as it is shown, who is asking, and the templates.

Invariant: a page changes nothing itself. It reads the spool through `view` and `index`, and leaves requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import bottle

from qm.spool.view import View
from qm.vocabulary.config import Settings
from qm_web import words
from qm_web.cache.index import Index, Row
from qm_web.cache.past import Past
from qm_web.cache.taskbook import TaskBook
from qm_web.gate.access import Access, Role, Visitor
from qm_web.live import Live
from qm_web.said import said

HERE = Path(__file__).parent
TEMPLATES = str(HERE / "templates")
LOOKUP = [TEMPLATES]  # one list for good: Bottle keeps compiled templates by its identity
STATIC = str(HERE / "static")


@dataclass(frozen=True)
class Site:
    """One dashboard. `now` is the clock that pages show (UTC epoch seconds)."""

    settings: Settings
    view: View
    index: Index
    past: Past
    tasks: TaskBook
    live: Live
    access: Access
    now: Callable[[], float]

    # --- who asks ------------------------------------------------------------------------------------------

    def visitor(self) -> Visitor:
        """Who sent the present request (the guard has found that out before any page is called)."""
        visitor: Visitor = bottle.request.environ["qm.visitor"]
        return visitor

    def need(self, role: Role) -> Visitor:
        """The visitor, who must have at least this role: else 403."""
        visitor = self.visitor()
        if visitor.role < role:
            refuse(403, f"{visitor.name or 'you'} may not do that here: it needs the role {role.name.lower()}")
        return visitor

    def may(self) -> dict[str, bool]:
        """What the visitor may do: `operate`, `kill`, `delete`."""
        operate = self.visitor().role >= Role.OPERATE
        web = self.settings.web
        return {
            "operate": operate,
            "kill": operate and web.licence_to_kill,
            "delete": operate and web.delete_jobs,
        }

    def need_details(self) -> None:
        """403 where `Display_details` hides what is in the jobs."""
        if not self.settings.web.display_details:
            refuse(403, "Display_details is off in QMserv.cfg: files, logs and descriptions of jobs are not shown")

    # --- jobs ----------------------------------------------------------------------------------------------

    def job(self, key: str) -> Row:
        """The job with this key, where it lies right now; 404 if there is none."""
        row = self.index.find(key)
        if row is None:
            refuse(404, f"there is no job {words.printable(key)[:80]!r} (any more)")
        return row

    # --- answers -------------------------------------------------------------------------------------------

    def page(self, template: str, **values: Any) -> str:
        """A whole page: a template inside the layout. Everything in a template is escaped unless it says `!`."""
        bottle.response.content_type = "text/html; charset=utf-8"
        bottle.response.set_header("Cache-Control", "no-store")
        return self.render(template, **values)

    def render(self, template: str, **values: Any) -> str:
        """A template's text. Besides `values` it knows the names given below; `root` is the prefix of links."""
        text: str = bottle.template(
            template,
            template_lookup=LOOKUP,
            site=self,
            web=self.settings.web,
            visitor=self.visitor(),
            may=self.may(),
            root=bottle.request.environ.get("SCRIPT_NAME", ""),
            now=self.now(),
            words=words,
            said=said,
            **values,
        )
        return text


def refuse(status: int, message: str) -> NoReturn:
    """End the request with this HTTP status and one sentence for the person who asked."""
    raise bottle.HTTPError(status, message)


def as_json(value: Any, status: int = 200) -> str:
    """Answer with JSON. Undecodable bytes in names come as escapes, which JSON readers turn into lone surrogates."""
    bottle.response.status = status
    bottle.response.content_type = "application/json"
    bottle.response.set_header("Cache-Control", "no-store")
    return json.dumps(value)
