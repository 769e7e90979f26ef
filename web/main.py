"""The program WEB_QMserver: serve the dashboard of one spool until SIGTERM or SIGINT.

It listens on loopback addresses only: until there are users and passwords, whoever reaches the port sees the
queue.
"""

from __future__ import annotations

import argparse
import ipaddress
import signal
import socket
import sys
from collections.abc import Sequence

import waitress

from qm import __version__
from qm.spool.settings import load_settings
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import EX_DONE, ConfigError, QMError, TryAgain
from qm.vocabulary.text import printable
from qm_web.app import make_app


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
    host, port = loopback(settings), settings.web.port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EX_DONE))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as err:
        raise TryAgain(
            f"cannot listen on {host} port {port}: {err.strerror}; end the program that does, "
            f"or choose another The_Port in {settings.file}"
        ) from err
    shown = f"[{host}]" if ":" in host else host
    print(f"WEB_QMserver: http://{shown}:{listening.getsockname()[1]}/ shows {printable(settings.folder)}", flush=True)
    server = waitress.create_server(make_app(settings), sockets=[listening], ident="")
    server.run()  # returns on SystemExit and KeyboardInterrupt


def loopback(settings: Settings) -> str:
    """The address to listen on, which only this machine reaches. ConfigError for any other Host."""
    host = settings.web.host
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass  # a name: where it leads is not ours to guess
    raise ConfigError(
        f"{settings.file}: [WEB_QMserver] Host = {host!r} would show the queue to other machines, and "
        "the dashboard has no users and passwords yet; accepted: 127.0.0.1, ::1 or localhost (elsewhere, "
        f"`ssh -L {settings.web.port}:127.0.0.1:{settings.web.port} HOST` leads there)"
    )


if __name__ == "__main__":
    sys.exit(main())
