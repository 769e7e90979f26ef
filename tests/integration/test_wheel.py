"""What is installed from the sdist and its wheel, with nothing of the repository in reach, is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MADE = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "*.egg-info")

SHOW_THE_PAGE = """
from wsgiref.util import setup_testing_defaults
from qm.spool.settings import load_settings
from qm_web.app import make_app
for path in "/", "/static/qm.css", "/static/uplot/uPlot.esm.js", "/api/v1/openapi.json":
    environ = {}
    setup_testing_defaults(environ)
    environ.update(PATH_INFO=path, HTTP_HOST="localhost", REMOTE_ADDR="127.0.0.1", REMOTE_PORT="1")
    statuses = []
    list(make_app(load_settings("spool"))(environ, lambda status, *_: statuses.append(status)))
    assert statuses == ["200 OK"], (path, statuses)
"""


def not_copied(folder: str, names: list[str]) -> set[str]:
    """What tools have made, and jobs that lie in the repository's own spool."""
    jobs = set(names) - {".gitkeep"} if Path(folder).name.startswith("QM_") else set()
    return jobs | MADE(folder, names)


def run(*command: str | Path, where: Path) -> str:
    """The output of a command that has to succeed, without this environment's Python settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QM_", "COV"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_runs_in_an_empty_environment_with_the_wheel_made_from_the_sdist(tmp_path: Path) -> None:
    source, dist, environment = tmp_path / "source", tmp_path / "dist", tmp_path / "environment"
    shutil.copytree(REPOSITORY, source, ignore=not_copied)
    run(sys.executable, "-m", "build", "--outdir", dist, source, where=tmp_path)  # the wheel from the sdist

    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {
        "Makefile",
        "QMserv.cfg",
        "CHANGELOG.md",
        "LICENSE",
        ".ci/run",
        "tools/setup",
        "QM_qJobs/.gitkeep",
    }
    wanted |= {str(file.relative_to(source)) for file in (source / "examples").rglob("*") if file.is_file()}
    wanted |= {str(file.relative_to(source)) for file in (source / "tests").rglob("*.py")}
    assert wanted <= packed

    run(sys.executable, "-m", "venv", environment, where=tmp_path)
    run(environment / "bin" / "pip", "install", "--no-compile", next(dist.glob("*.whl")), where=tmp_path)
    run(environment / "bin" / "qm", "init", "spool", where=tmp_path)
    shutil.copytree(source / "examples" / "word_count_xml", tmp_path / "spool" / "QM_qJobs" / "words")
    run(environment / "bin" / "QueueManager", "-c", "spool/QMserv.cfg", "--until-empty", where=tmp_path)
    assert (tmp_path / "spool" / "QM_dJobs" / "words" / "results.txt").stat().st_size > 0
    run(environment / "bin" / "python", "-c", SHOW_THE_PAGE, where=tmp_path)
    assert "RequiresMountsFor" in run(
        environment / "bin" / "python",
        "-c",
        "import importlib.resources as r; print((r.files('qm') / 'data/QueueManager.service').read_text())",
        where=tmp_path,
    )
