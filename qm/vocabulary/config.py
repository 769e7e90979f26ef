"""QMserv.cfg: what may stand in it, and how it is read.

Invariant: one table, KEYS, says everything about every key. Reading, checking, the commented file that
`qm init` writes and the table in the docs all come from it. Whoever has a Settings has a whole and valid one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from qm.vocabulary.errors import ConfigError
from qm.vocabulary.ini import IniError, Section, read_ini
from qm.vocabulary.values import memory

SERVER = "QMServer"
WEB = "WEB_QMserver"
GROUP = "Group"
MAX_PARALLEL = "max_parallel"
"""`[Group NAME]` has this one key: at most so many jobs of the group run at a time."""

JOB_FILES = ("proc_config.cfg", "info.xml", "infos.xml", "job.sh")
"""The names of job files: the first that a folder has is read."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Section [WEB_QMserver]. `refresh_rate` is in seconds, `max_upload` and `max_unpacked` in bytes.

    `users_file` is resolved against QMserv.cfg; "" means that there are no users.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    refresh_rate: float = 3.0
    display_details: bool = True
    delete_jobs: bool = False
    licence_to_kill: bool = False
    debug: bool = False
    public_url: str = ""
    users_file: str = ""
    anonymous: str = "no"
    max_upload: int = 1 << 30
    max_unpacked: int = 10 << 30
    max_files: int = 100_000


@dataclass(frozen=True, slots=True)
class Settings:
    """One QMserv.cfg. `file` is its path, `folder` QM_FOLDER resolved against it; times are in seconds, sizes in bytes.

    `groups` has a pair for each `[Group NAME]`: its name and its max_parallel.
    """

    file: str
    folder: str
    max_processors: int | None = None  # None: as many as the machine has
    launch_type: str = "non-blocking"
    job_files: tuple[str, ...] = JOB_FILES
    mail_active: bool = False
    debug: bool = False
    failed_jobs: str = "lost+found"
    settle_time: float = 1.0
    arrival_grace: float = 60.0
    poll_interval: float = 3.0
    kill_grace: float = 10.0
    portable: bool = False
    limit_processors: bool = True
    max_memory: int | None = None  # None: what the machine has, less a reserve
    max_gpus: int | None = None  # None: those that the driver lists
    disk_reserve: int = 100 << 20
    groups: tuple[tuple[str, int], ...] = ()
    web: WebSettings = WebSettings()


# --- readers: the value of a text, ValueError if it is not understood -------------------------------------


def _folder(text: str) -> str:
    if not text or "\n" in text or text.startswith("~"):  # ~ is the shell's, and would become a folder of that name
        raise ValueError
    return text


def _auto(read: Callable[[str], int]) -> Callable[[str], int | None]:
    """Reads `auto` as None: whatever the machine has."""
    return lambda text: None if text.lower() == "auto" else read(text)


def _size(text: str) -> int:
    return 0 if text == "0" else memory(text)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not least <= number <= most:
            raise ValueError
        return number

    return read


def _seconds(least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text)
        if not least <= number <= 1e9:  # false for nan, too
            raise ValueError
        return number

    return read


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return read


def _truth(text: str) -> bool:
    return _choice("true", "yes", "on", "1", "false", "no", "off", "0")(text) in ("true", "yes", "on", "1")


def _file_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or any("/" in name or name in (".", "..") for name in names):
        raise ValueError
    return names


def _host(text: str) -> str:
    if not text or any(character.isspace() or character == "/" for character in text):
        raise ValueError
    return text


def _affinity(text: str) -> bool:
    return _choice("affinity", "none")(text) == "affinity"


def _address(text: str) -> str:
    if text.lower() in ("", "none"):
        return ""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    _ = parts.port  # ValueError for one that is no number
    return text.rstrip("/")


def _file(text: str) -> str:
    if "\n" in text or "\0" in text or text.startswith("~"):
        raise ValueError
    return "" if text.lower() == "none" else text


# --- the table ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One key: where it stands, which field it fills, how it is read, and what is said about it."""

    section: str
    name: str
    field: str
    read: Callable[[str], Any]
    default: str
    accepted: str
    meaning: str


TRUTH = "True or False"

KEYS = (
    Key(SERVER, "QM_FOLDER", "folder", _folder, ".",
        "a folder, absolute or relative to this file",
        "The folder that holds QM_qJobs, QM_Jobs, QM_dJobs and QM_lost+found."),
    Key(SERVER, "MaxNbProcessors", "max_processors", _auto(_whole(1, 1_000_000)), "auto",
        "a whole number of 1 or more, or auto",
        "How many processors the running jobs may have together; auto: those of the machine."),
    Key(SERVER, "launch_type", "launch_type", _choice("non-blocking", "blocking", "slurm", "gridengine"),
        "non-blocking", "non-blocking, blocking, slurm or gridengine",
        "Jobs side by side, one after the other, or handed to a cluster's own engine."),
    Key(SERVER, "job_file", "job_files", _file_names, ", ".join(JOB_FILES),
        "file names, separated by commas",
        "What a job's options are read from: the first of these that its folder has."),
    Key(SERVER, "Failed_Jobs", "failed_jobs", _choice("lost+found", "done"), "lost+found",
        "lost+found or done",
        "Where jobs go whose script ended with another status than 0."),
    Key(SERVER, "MailActive", "mail_active", _truth, "False", TRUTH,
        "Tell the e_mail address of a job when it ends."),
    Key(SERVER, "Settle_Time", "settle_time", _seconds(0), "1", "seconds, 0 or more",
        "A folder that is being copied in is complete when nothing in it has changed for so long."),
    Key(SERVER, "Arrival_Grace", "arrival_grace", _seconds(0), "60", "seconds, 0 or more",
        "How long an unchanged folder without a job file is waited for before it is called invalid."),
    Key(SERVER, "Poll_Interval", "poll_interval", _seconds(0.05), "3", "seconds, 0.05 or more",
        "How often the folders are looked through, whatever events were seen."),
    Key(SERVER, "Kill_Grace", "kill_grace", _seconds(0), "10", "seconds, 0 or more",
        "How long a job that is killed may take to end by itself (between SIGTERM and SIGKILL)."),
    Key(SERVER, "Limit_Processors", "limit_processors", _affinity, "affinity", "affinity or none",
        "Give each job processors of its own (only while MaxNbProcessors is not above those there are), or none."),
    Key(SERVER, "MaxMemory", "max_memory", _auto(memory), "auto", "bytes, or 512M, 64G, or auto",
        "How much memory the running jobs may ask for together (key mem); auto: the machine's, less a reserve."),
    Key(SERVER, "MaxGPUs", "max_gpus", _auto(_whole(0, 10_000)), "auto", "a whole number of 0 or more, or auto",
        "How many GPUs there are to hand out (key gpus); auto: those that nvidia-smi lists."),
    Key(SERVER, "Disk_Reserve", "disk_reserve", _size, "100M", "bytes, or 512M, 10G; 0 for none",
        "No job is started while less than that is free where QM_FOLDER lies."),
    Key(SERVER, "Portable", "portable", _truth, "False", TRUTH,
        "Use only what every system has: polling instead of events, psutil instead of pidfd."),
    Key(SERVER, "Debug", "debug", _truth, "False", TRUTH,
        "Write more into QueueManager.log."),
    Key(WEB, "Host", "host", _host, "127.0.0.1", "an address or a name of this machine",
        "Where the dashboard listens."),
    Key(WEB, "The_Port", "port", _whole(0, 65535), "8080", "a whole number from 0 to 65535",
        "The port it listens on; 0: any that is free."),
    Key(WEB, "Refresh_Rate", "refresh_rate", _seconds(0.1), "3", "seconds, 0.1 or more",
        "How often the page is made anew."),
    Key(WEB, "Display_details", "display_details", _truth, "True", TRUTH,
        "Show owner, description, reason, files and logs of jobs."),
    Key(WEB, "Delete_Jobs", "delete_jobs", _truth, "False", TRUTH,
        "Jobs may be deleted from the page."),
    Key(WEB, "Licence_to_kill", "licence_to_kill", _truth, "False", TRUTH,
        "Jobs may be killed from the page."),
    Key(WEB, "Users_File", "users_file", _file, "none", "a file, absolute or relative to this one, or none",
        "Who may log in (`qm web adduser NAME` makes it); needed, or Anonymous, for a Host beyond this machine."),
    Key(WEB, "Anonymous", "anonymous", _choice("no", "view"), "no", "no or view",
        "What somebody may do who has not logged in: nothing, or look at everything."),
    Key(WEB, "Public_URL", "public_url", _address, "none", "an address such as https://lab.example.org/qm, or none",
        "Where a reverse proxy on this machine shows the dashboard."),
    Key(WEB, "Max_Upload", "max_upload", memory, "1G", "bytes, or 512M, 1G",
        "The largest archive that may be uploaded."),
    Key(WEB, "Max_Unpacked", "max_unpacked", memory, "10G", "bytes, or 512M, 1G",
        "The most that an uploaded archive may unpack to."),
    Key(WEB, "Max_Files", "max_files", _whole(1, 100_000_000), "100000", "a whole number of 1 or more",
        "The most files and folders that an uploaded archive may have."),
    Key(WEB, "Debug", "debug", _truth, "False", TRUTH,
        "Show errors of the dashboard in the page."),
)  # fmt: skip


def read_settings(text: str, file: str) -> Settings:
    """The settings that a QMserv.cfg with this text has, `file` being its absolute path.

    Raises ConfigError, which names file, line, key and value, and what is accepted.
    """
    try:
        sections = read_ini(text)
    except IniError as err:
        raise ConfigError(f"{file}, line {err.line}: {err}") from err
    values = {(key.section, key.field): key.read(key.default) for key in KEYS}
    groups: dict[str, int] = {}
    for section in sections:
        if section.name.lower().startswith(f"{GROUP.lower()} "):
            group = section.name[len(GROUP) :].strip()
            groups[group] = _most_parallel(group, section, file)
            continue
        name = _section(section.name, f"{file}, line {section.line}")
        for entry in section.entries:
            where = f"{file}, line {entry.line}"
            key = _key(name, entry.key, where)
            values[key.section, key.field] = _value(key, entry.value, where)
    server = {field: value for (section, field), value in values.items() if section == SERVER}
    web = {field: value for (section, field), value in values.items() if section == WEB}
    server["folder"] = str(PurePath(file).parent / server["folder"])
    if web["users_file"]:
        web["users_file"] = str(PurePath(file).parent / web["users_file"])
    return Settings(file=file, groups=tuple(groups.items()), web=WebSettings(**web), **server)


def _most_parallel(group: str, section: Section, file: str) -> int:
    """What `[Group NAME]` says. Names of groups are as jobs write them: case counts."""
    found = None
    for entry in section.entries:
        where = f"{file}, line {entry.line}: [{GROUP} {group}] {entry.key}"
        if entry.key.lower() != MAX_PARALLEL:
            raise ConfigError(f"{where} is not known; accepted: {MAX_PARALLEL}")
        try:
            found = _whole(1, 1_000_000)(entry.value)
        except ValueError:
            text = f"{where} = {entry.value!r} is not understood; accepted: a whole number of 1 or more"
            raise ConfigError(text) from None
    if found is None:
        raise ConfigError(f"{file}, line {section.line}: [{GROUP} {group}] needs {MAX_PARALLEL} : a whole number")
    return found


def _section(name: str, where: str) -> str:
    sections = {section.lower(): section for section in (SERVER, WEB)}
    if name.lower() in sections:
        return sections[name.lower()]
    meant = nearest(name, list(sections.values()))
    hint = f"did you mean [{meant}]? " if meant else ""
    raise ConfigError(f"{where}: section [{name}] is not known; {hint}accepted: [{SERVER}], [{WEB}], [{GROUP} NAME]")


def _key(section: str, name: str, where: str) -> Key:
    here = {key.name.lower(): key for key in KEYS if key.section == section}
    if name.lower() in here:
        return here[name.lower()]
    elsewhere = [key.section for key in KEYS if key.name.lower() == name.lower()]
    meant = nearest(name, [key.name for key in here.values()])
    if elsewhere:
        hint = f"it belongs into [{elsewhere[0]}]; "
    else:
        hint = f"did you mean {meant}? " if meant else ""
    accepted = ", ".join(key.name for key in here.values())
    raise ConfigError(f"{where}: [{section}] {name} is not known; {hint}accepted: {accepted}")


def _value(key: Key, text: str, where: str) -> Any:
    try:
        return key.read(text)
    except ValueError:
        raise ConfigError(
            f"{where}: [{key.section}] {key.name} = {text!r} is not understood; accepted: {key.accepted}"
        ) from None


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Which of the known names was probably meant, None if it is like none of them."""
    import difflib  # here, since it is slow to import and seldom wanted

    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def default_config() -> str:
    """A commented QMserv.cfg in which every key has its default."""
    lines = ["# The configuration of a QM spool. Each key has its default here, and when it is left out."]
    for section in (SERVER, WEB):
        lines += ["", f"[{section}]"]
        for key in KEYS:
            if key.section == section:
                lines += [
                    "",
                    f"# {key.meaning}",
                    f"# Accepted: {key.accepted}",
                    f"{key.name} : {key.default}",
                ]
    lines += ["", "# Jobs with `group : io` run at most two at a time:", f"# [{GROUP} io]", f"# {MAX_PARALLEL} : 2"]
    return "\n".join(lines) + "\n"
