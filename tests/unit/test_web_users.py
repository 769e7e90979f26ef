"""The Users_File: what may stand in it, who may read it, and the commands that write it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qm.cli.main import main
from qm.vocabulary.errors import ConfigError, RequestError
from qm_web.gate.roles import Role
from qm_web.gate.userfile import N, P, R, User, change, is_password, make_token, make_user, parse_users, read_users
from qm_web.gate.users import Busy, Users

SALT, HASH = "c2FsdHNhbHRzYWx0c2FsdA==", "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g="
GOOD = f"user alice operate scrypt:16384:8:5 {SALT} {HASH}"


def cheap(name: str, password: str = "correct horse", role: Role = Role.VIEW) -> User:
    salt = os.urandom(16)
    return User(name, role, 1024, 1, 1, salt, hashlib.scrypt(password.encode(), salt=salt, n=1024, r=1, p=1, dklen=32))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = str(tmp_path / "QM_users")
    change(path, "user", "alice", cheap("alice"))
    return path


def test_a_password_is_kept_as_scrypt_with_the_figures_of_owasp() -> None:
    seen: list[dict[str, Any]] = []

    def scrypt(password: bytes, **figures: Any) -> bytes:
        seen.append(figures)
        return hashlib.scrypt(password, salt=figures["salt"], n=2, r=8, p=1, dklen=32)

    user = make_user("alice", Role.VIEW, "correct horse", scrypt)
    assert (N, R, P) == (1 << 14, 8, 5)
    assert [(figures["n"], figures["r"], figures["p"]) for figures in seen] == [(N, R, P)]
    assert is_password(user, "correct horse", scrypt)
    assert not is_password(user, "correct horsf", scrypt)
    assert "correct" not in user.line()


def test_a_password_is_the_same_however_its_letters_are_composed() -> None:
    assert is_password(cheap("a", "Grüße"), "Gru\u0308ße")


def test_a_file_of_our_own_is_read_as_it_was_written(file: str) -> None:
    token, secret = make_token("ci", Role.OPERATE)
    change(file, "token", "ci", token)
    listed = read_users(file)
    assert list(listed.users) == ["alice"]
    assert listed.token(secret) == token
    assert listed.token(secret + "x") is None
    assert secret not in Path(file).read_text()
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_comments_and_blank_lines_stay(file: str) -> None:
    text = Path(file).read_text() + "\n# the night shift\n"
    Path(file).write_text(text)
    change(file, "user", "bob", cheap("bob"))
    change(file, "user", "alice", cheap("alice", "another one"))
    lines = Path(file).read_text().splitlines()
    assert lines[:2] == text.splitlines()[:2]
    assert lines[3:5] == ["", "# the night shift"]
    assert [line.split()[1] for line in lines if line.startswith("user")] == ["alice", "bob"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alice:secret", "a line is `user NAME"),
        (GOOD.replace("operate", "admin"), "role 'admin' is not known, there are view and operate"),
        (GOOD.replace("scrypt", "md5"), "scrypt:N:R:P"),
        (GOOD.replace("16384", "x"), "scrypt:N:R:P"),
        (GOOD.replace("16384", "16383"), "a power of 2"),
        (GOOD.replace("16384", "9" * 5000), "a power of 2"),
        (GOOD.replace(":8:5", ":8:0"), "R and P 1 to 16"),
        (GOOD.replace("16384", "131072"), "32 MiB at most"),
        (GOOD.replace(SALT, "!!"), "mend the line"),
        (GOOD.replace(SALT, "YQ=="), "8 bytes or more"),
        (GOOD.replace(SALT, "salt\u00e4"), "mend the line"),
        (GOOD.replace("alice", "al<i>ce"), "letters, digits"),
        (GOOD.replace("alice", "a" * 65), "letters, digits"),
        (GOOD + " more", "a line is `user NAME"),
        ("token ci view sha256 abc", "64 hexadecimal digits"),
        ("token ci view", "a line is `user NAME"),
        (f"{GOOD}\n{GOOD}", "stands there twice"),
    ],
)
def test_a_broken_line_is_refused_with_its_number_and_what_is_right(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_users(f"# comment\n\n{line}\n", "/srv/QM_users")
    assert f"/srv/QM_users, line {4 if 'twice' in said else 3}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602, 0o601])
def test_a_file_that_others_may_touch_is_refused(file: str, mode: int) -> None:
    os.chmod(file, mode)
    with pytest.raises(ConfigError, match="`chmod 600` it"):
        read_users(file)
    with pytest.raises(ConfigError, match="`chmod 600` it"):
        change(file, "user", "bob", cheap("bob"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(file: str) -> None:
    os.chown(file, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to uid 65534"):
        read_users(file)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`qm web adduser NAME` makes it"):
        read_users(str(tmp_path / "nowhere"))
    path = tmp_path / "bytes"
    path.touch(0o600)
    path.write_bytes(b"user \xff\xfe operate\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_users(str(path))


def test_what_is_not_there_cannot_be_taken_out(file: str) -> None:
    with pytest.raises(RequestError, match="there is no user bob"):
        change(file, "user", "bob", None)
    with pytest.raises(RequestError, match="there is no token alice"):
        change(file, "token", "alice", None)


# --- checking passwords ----------------------------------------------------------------------------------------


def test_a_change_of_the_file_holds_from_the_next_look_on(file: str) -> None:
    users = Users(file)
    assert users.check("alice", "correct horse") is not None
    assert users.check("alice", "another one") is None
    change(file, "user", "alice", cheap("alice", "another one"))
    assert users.check("alice", "another one") is not None
    assert users.check("alice", "correct horse") is None
    change(file, "user", "alice", None)
    assert users.check("alice", "another one") is None
    os.unlink(file)
    with pytest.raises(ConfigError, match="adduser"):
        users.listed()


def test_a_file_that_did_not_change_is_not_read_again(file: str) -> None:
    users = Users(file)
    assert users.listed() is users.listed()


def test_an_unknown_name_costs_as_much_as_a_wrong_password(file: str) -> None:
    seen: list[tuple[int, ...]] = []

    def scrypt(_password: bytes, **figures: Any) -> bytes:
        seen.append((figures["n"], figures["r"], figures["p"]))
        return b"x" * int(figures["dklen"])

    change(file, "user", "alice", make_user("alice", Role.VIEW, "correct horse", lambda *_, **__: b"h" * 32))
    users = Users(file, scrypt)
    assert users.check("alice", "wrong") is users.check("nobody", "wrong") is users.check("", "") is None
    assert seen == [(N, R, P)] * 3


def test_passwords_are_checked_one_at_a_time_and_few_wait(file: str) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    inside: list[int] = []

    def scrypt(_password: bytes, **figures: Any) -> bytes:
        inside.append(1)
        begun.release()
        assert len(inside) == 1
        assert go_on.wait(30)
        inside.pop()
        return b"x" * int(figures["dklen"])

    users = Users(file, scrypt)
    threads = [threading.Thread(target=users.check, args=("alice", "x")) for _ in range(Users.MAX_WAITING)]
    threads[0].start()
    assert begun.acquire(timeout=30)
    for thread in threads[1:]:
        thread.start()
    busy = False
    for _ in range(10_000):
        if users._waiting._value == 0:
            with pytest.raises(Busy):
                users.check("alice", "x")
            busy = True
            break
        threading.Event().wait(0.001)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert busy


# --- the commands ------------------------------------------------------------------------------------------------

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`qm web …` for a spool in tmp_path, with a line on standard input."""
    (tmp_path / "QMserv.cfg").write_text("[WEB_QMserver]\n")
    monkeypatch.setattr("qm_web.gate.userfile.make_user", lambda name, role, password: cheap(name, password, role))

    def call(*words: str, line: str = "") -> int:
        import io

        monkeypatch.setattr("sys.stdin", io.StringIO(line))
        return main(["-c", str(tmp_path / "QMserv.cfg"), "web", *words])

    return call


def test_the_first_user_makes_the_file_and_says_what_is_still_to_do(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("adduser", "alice", "--role", "operate", line="correct horse\n") == 0
    said = capsys.readouterr().out
    assert "alice may log in; role operate" in said
    assert "Users_File : QM_users" in said
    assert Users(str(tmp_path / "QM_users")).check("alice", "correct horse") is not None
    (tmp_path / "QMserv.cfg").write_text("[WEB_QMserver]\nUsers_File : QM_users\n")
    assert run("adduser", "bob", line="another horse") == 0
    assert "Users_File :" not in capsys.readouterr().out
    assert read_users(str(tmp_path / "QM_users")).users["bob"].role == Role.VIEW


def test_a_new_password_leaves_the_role(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("adduser", "alice", "--role", "operate", line="correct horse\n")
    assert run("adduser", "alice", line="another horse\n") == 0
    assert "must log in again; role operate" in capsys.readouterr().out
    assert read_users(str(tmp_path / "QM_users")).users["alice"].role == Role.OPERATE


@pytest.mark.parametrize(
    ("name", "line"), [("alice", "short\n"), ("alice", ""), ("al ice", "correct horse"), ("", "x" * 9)]
)
def test_what_cannot_be_a_user_is_wrong_usage(run: Run, tmp_path: Path, name: str, line: str) -> None:
    assert run("adduser", name, line=line) == 2
    assert not (tmp_path / "QM_users").exists()


def test_two_different_passwords_on_a_terminal_change_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qm.cli.verbs import web

    typed = iter(["correct horse", "correct house"])
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    with pytest.raises(RequestError, match="two different passwords"):
        web.ask_password("alice")


def test_a_token_is_printed_once_and_alone(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "QMserv.cfg").write_text("[WEB_QMserver]\nUsers_File : QM_users\n")
    assert run("token", "ci", "--role", "operate") == 0
    said = capsys.readouterr()
    secret = said.out.removesuffix("\n")
    assert secret.startswith("qm_") and len(secret) > 40 and said.err == ""
    found = read_users(str(tmp_path / "QM_users")).token(secret)
    assert found is not None and found.role == Role.OPERATE
    assert run("token", "ci") == 0
    assert read_users(str(tmp_path / "QM_users")).token(secret) is None


def test_users_and_tokens_are_listed_and_taken_out(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("adduser", "alice", line="correct horse\n")
    run("token", "ci")
    capsys.readouterr()
    assert run("users") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[:2]] == [
        ["user", "view", "alice"],
        ["token", "view", "ci"],
    ]
    assert run("deluser", "alice") == run("deltoken", "ci") == 0
    assert run("deluser", "alice") == 1
    assert "there is no user alice" in capsys.readouterr().err
