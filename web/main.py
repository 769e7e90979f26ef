"""The program WEB_QMserver: serve the dashboard of one spool until SIGTERM or SIGINT.

Invariant: without users, or a will to show the queue to everybody, it listens where only this machine can ask.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from qm import __version__
from qm.spool.settings import load_settings
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import EX_DONE, ConfigError, QMError, TryAgain
from qm.vocabulary.text import printable
from qm_web.app import make_app
from qm_web.gate.access import is_loopback
from qm_web.gate.userfile import read_users
from qm_web.serving import make_server

DESCRIPTORS = 8192
"""Files and connections that may be open at once. The usual 1024 are soon used up by requests sent in one piece."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 after SIGTERM or SIGINT, 75 if the port is taken, 78 for a wrong configuration."""
    parser = argparse.ArgumentParser(prog="WEB_QMserver", description="The dashboard of a QM spool.")
    parser.add_argument("-c", metavar="QMserv.cfg", dest="config", help="the configuration to use")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    options = parser.parse_args(arguments)
    try:
        serve(load_settings(options.config))
    except QMError as err:
        print(f"WEB_QMserver: {printable(str(err))}", file=sys.stderr)
        return err.exit_status
    return EX_DONE


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. ConfigError or TryAgain when that cannot begin."""
    address = address_of(settings)
    check_exposure(settings, address)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, end)
    take_descriptors()
    with listen(settings, address) as listening:
        server = make_server(make_app(settings), settings.web, listening)
        where = f"http://{shown(address)}:{listening.getsockname()[1]}/"
        public = f" ({settings.web.public_url}/)" if settings.web.public_url else ""
        print(f"WEB_QMserver: {where}{public} shows {printable(settings.folder)}", flush=True)
        server.run()  # returns on SystemExit and KeyboardInterrupt


def take_descriptors() -> None:
    """Allow ourselves DESCRIPTORS, as far as the system lets us: each download in progress holds a file open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def end(_number: int, _frame: Any) -> None:
    """SIGTERM: stop serving."""
    raise SystemExit(EX_DONE)


def check_exposure(settings: Settings, address: str) -> None:
    """ConfigError if others could ask and nothing says what they may; or if the Users_File cannot be used."""
    web, port = settings.web, settings.web.port
    if web.users_file:
        read_users(web.users_file)
        return
    if web.anonymous == "view":
        return
    remedy = (
        f"make users (`{adduser(settings)}`, which says what to write into {settings.file}), "
        "or write Anonymous = view to show everything to everybody"
    )
    if web.public_url:
        raise ConfigError(f"{settings.file}: [WEB_QMserver] Public_URL shows the queue to others: {remedy}")
    if not is_loopback(address):
        raise ConfigError(
            f"{settings.file}: [WEB_QMserver] Host = {web.host!r} shows the queue to other machines: {remedy}; "
            "or leave Host = 127.0.0.1, and look from elsewhere through "
            f"`ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}`"
        )


def adduser(settings: Settings) -> str:
    """The command that makes a user for this configuration."""
    here = settings.file == os.path.abspath("QMserv.cfg")
    return "qm web adduser NAME" if here else f"qm -c {settings.file} web adduser NAME"


def address_of(settings: Settings) -> str:
    """The address to listen on. ConfigError if Host is a name that leads nowhere."""
    host = settings.web.host.strip("[]")
    if host == "localhost":
        return "127.0.0.1"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as err:
        raise ConfigError(
            f"{settings.file}: [WEB_QMserver] Host = {host!r} is no address or name of this machine ({err}); "
            "127.0.0.1 is this machine alone, 0.0.0.0 all its addresses, :: those of IPv6, too"
        ) from err
    return str(found[0][4][0])


def listen(settings: Settings, address: str) -> socket.socket:
    """A socket that listens there. TryAgain if the port is taken, ConfigError if the address is not ours."""
    port = settings.web.port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    both = address == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((address, port), family=family, dualstack_ipv6=both, backlog=1024)
    except PermissionError as err:
        raise ConfigError(
            f"cannot listen on {address} port {port}: {err.strerror}; ports below 1024 are root's, "
            f"choose another The_Port in {settings.file}"
        ) from err
    except OSError as err:
        raise TryAgain(
            f"cannot listen on {address} port {port}: {err.strerror}; end the program that does, "
            f"or choose another The_Port in {settings.file}"
        ) from err


def shown(address: str) -> str:
    """An address as it stands in a URL; one that people can ask for all addresses at once."""
    if address in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address


if __name__ == "__main__":
    sys.exit(main())
