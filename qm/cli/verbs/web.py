"""qm web: WEB_QMserver under another name; and who may log in there: adduser, deluser, users, token, deltoken."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "serve the dashboard (the same as WEB_QMserver), or say who may log in there"
DEFAULT_FILE = "QM_users"
ROLES = ("view", "operate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    verbs = parser.add_subparsers(dest="web_verb", metavar="VERB", title="who may log in")
    add = _verb(verbs, "adduser", "let somebody log in, or give them another password or role")
    add.add_argument("name", metavar="NAME", help="letters, digits and . _ @ + -")
    add.add_argument("--role", choices=ROLES, help="view (the default) looks; operate submits, kills, …, too")
    add.epilog = "The password is asked for on a terminal; else it is the first line of standard input."
    _verb(verbs, "deluser", "let somebody log in no more; their sessions end at once").add_argument(
        "name", metavar="NAME", help="their name"
    )
    _verb(verbs, "users", "list users and tokens")
    token = _verb(verbs, "token", "make a token for a script and print it, once; an old one of that name is void")
    token.add_argument("name", metavar="NAME", help="what it is for")
    token.add_argument("--role", choices=ROLES, default="view", help="what it may do (default: view)")
    _verb(verbs, "deltoken", "make a token void").add_argument("name", metavar="NAME", help="its name")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    return added


def run(args: argparse.Namespace) -> int:
    """Serve until stopped, or change the Users_File."""
    if args.web_verb is not None:
        return {"adduser": add_user, "deluser": remove, "users": users, "token": token, "deltoken": remove}[
            args.web_verb
        ](args)
    from qm_web.main import main

    return main(["-c", args.config] if args.config is not None else [])


def add_user(args: argparse.Namespace) -> int:
    """Put a user into the file. The role of one who is there stays, unless another is given."""
    from qm.cli.common import say
    from qm.cli.main import usage_error
    from qm.vocabulary.errors import EX_DONE
    from qm_web.gate.userfile import MAX_PASSWORD, MIN_PASSWORD, ROLES, change, make_user, name_of, users_of

    file, hint = users_file(args)
    try:
        name = name_of(args.name)
    except ValueError as err:
        return usage_error(f"{args.name!r}: {err}")
    there = users_of(file).get(name)
    password = ask_password(name)
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        return usage_error(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; nothing was changed")
    role = ROLES[args.role] if args.role else there.role if there else ROLES["view"]
    change(file, "user", name, make_user(name, role, password))
    did = "has a new password, and must log in again" if there else "may log in"
    say(f"{name} {did}; role {role.name.lower()} ({file})")
    if hint:
        say(hint)
    return EX_DONE


def remove(args: argparse.Namespace) -> int:
    """Take a user or token out of the file."""
    import unicodedata

    from qm.cli.common import say
    from qm.vocabulary.errors import EX_DONE
    from qm_web.gate.userfile import change

    file, _ = users_file(args)
    kind = "user" if args.web_verb == "deluser" else "token"
    change(file, kind, unicodedata.normalize("NFC", args.name), None)
    say(f"{kind} {args.name} is out ({file})")
    return EX_DONE


def users(args: argparse.Namespace) -> int:
    """List them."""
    from qm.cli.common import say
    from qm.vocabulary.errors import EX_DONE
    from qm_web.gate.userfile import read_users

    file, hint = users_file(args)
    listed = read_users(file)
    for kind, entries in (("user", listed.users), ("token", listed.tokens)):
        for entry in entries.values():
            say(f"{kind:5}  {entry.role.name.lower():7}  {entry.name}")
    if hint:
        say(hint)
    return EX_DONE


def token(args: argparse.Namespace) -> int:
    """Make a token; only the token itself goes to standard output."""
    import sys

    from qm.cli.common import complain
    from qm.cli.main import usage_error
    from qm.vocabulary.errors import EX_DONE
    from qm_web.gate.userfile import ROLES, change, make_token, name_of

    file, hint = users_file(args)
    try:
        name = name_of(args.name)
    except ValueError as err:
        return usage_error(f"{args.name!r}: {err}")
    made, secret = make_token(name, ROLES[args.role])
    change(file, "token", name, made)
    print(secret)
    if sys.stdout.isatty():
        complain("this token is not shown again; a request carries it as `Authorization: Bearer TOKEN`")
    if hint:
        complain(hint)
    return EX_DONE


def users_file(args: argparse.Namespace) -> tuple[str, str]:
    """The Users_File, and what to say if QMserv.cfg does not name it yet."""
    import os

    from qm.spool.settings import load_settings

    settings = load_settings(args.config)
    if settings.web.users_file:
        return settings.web.users_file, ""
    file = os.path.join(os.path.dirname(settings.file), DEFAULT_FILE)
    line = f"Users_File : {DEFAULT_FILE}"
    return file, f"for passwords to be asked, section [WEB_QMserver] of {settings.file} must say:  {line}"


def ask_password(name: str) -> str:
    """A new password, typed twice on a terminal, else the first line of standard input. RequestError."""
    import getpass
    import sys

    from qm.vocabulary.errors import RequestError

    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line[:-1] if line.endswith("\n") else line
    try:
        password = getpass.getpass(f"password for {name}: ")
        again = getpass.getpass("the same again: ")
    except EOFError as err:
        raise RequestError("no password was given; nothing was changed") from err
    if password != again:
        raise RequestError("those were two different passwords; nothing was changed")
    return password
