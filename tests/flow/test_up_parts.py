"""The parts of `saescope up`: what is refused, the leash, a child that is kept alive."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, make_url

import app
from app.errors import Conflict, Unavailable
from app.settings import Settings
from app.store import keys
from app.store.engine import open_shelf
from app.store.migrate import migrate
from app.supervisor import checks, children
from app.supervisor.children import LEASH, Child
from app.supervisor.leash import watch
from app.supervisor.lock import jobs_worker_runs, only_one
from app.supervisor.up import _guide
from app.supervisor.welcome import when_ready
from tests.api.server import ServerProcess
from tests.flow.service import SAESCOPE, clean_env, free_port
from tests.jobs.place import pid_exists


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (["up"], ["serve"], ["worker", "jobs"], ["jobs", "list"], ["gc"]):
        env = clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path / "file" / "data")}
        ran = _saescope(*command, env=env)
        assert ran.returncode == 1
        assert ran.stderr.count("\n") == 1, ran.stderr
        assert "cannot be written to; set SAESCOPE_DATA_DIR" in ran.stderr


@pytest.mark.parametrize(("name", "value"), [
    ("SAESCOPE_PORT", "eighty"), ("SAESCOPE_DTYPE", "int4"), ("SAESCOPE_MAX_TEXTS", "many"),
])  # fmt: skip
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    env = clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path), name: value}
    ran = _saescope("up", env=env)
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"saescope: {name} cannot be '{value}': ")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "value", "told"), [
    ("SAESCOPE_DATABASE_URL", "mysql://me:secret@db/x", "give a Postgres URL, postgresql://"),
    ("SAESCOPE_DATABASE_URL", "sqlite:////tmp/x.db", "leave it unset for SQLite files"),
    ("SAESCOPE_LIVE_URL", "http://127.0.0.1:99999", "such as http://127.0.0.1:8001"),
    ("SAESCOPE_LIVE_URL", "127.0.0.1:8001", "such as http://127.0.0.1:8001"),
    ("SAESCOPE_LIVE_URL", "http://[", "such as http://127.0.0.1:8001"),
    ("SAESCOPE_JOBS_DEVICES", "", "at least 1 item"),
])  # fmt: skip
def test_a_setting_of_the_wrong_form_is_one_sentence(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    ran = _saescope("gc", env=clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path), name: value})
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"saescope: {name}")
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "secret" not in ran.stderr


@pytest.mark.parametrize(("command", "told"), [
    (["restore", "/nowhere.tgz"], "There is no file /nowhere.tgz."),
    (["backup", "/nowhere/all.tgz"], "There is no folder /nowhere; make it, or choose another."),
    (["backup", "x" * 300], f"{'x' * 300}: File name too long."),
])  # fmt: skip
def test_a_file_that_cannot_be_is_one_sentence(
    tmp_path: Path, command: list[str], told: str
) -> None:
    ran = _saescope(*command, env=clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path)})
    assert (ran.returncode, ran.stderr) == (1, f"saescope: {told}\n")


def test_a_database_that_answers_is_not_said_to_be_away(tmp_path: Path) -> None:
    (tmp_path / "shelf.db").write_text("something else, longer than the header of a database" * 99)
    ran = _saescope("gc", env=clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path)})
    assert ran.returncode == 1
    assert "file is not a database" in ran.stderr
    assert "does not answer" not in ran.stderr


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    env = clean_env() | {
        "SAESCOPE_DATA_DIR": str(tmp_path),
        "SAESCOPE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    ran = _saescope("jobs", "list", env=env)
    assert ran.returncode == 1
    assert ran.stderr.startswith("saescope: The database does not answer: ")
    assert ran.stderr.count("\n") == 1, ran.stderr


@pytest.mark.parametrize("changes", [
    {},
    {"host": "0.0.0.0"},
    {"host": "0.0.0.0", "allowed_hosts": ["sae.example"]},
    {"host": "::1"},
    {"host": "::", "allowed_hosts": ["sae.example"]},
])  # fmt: skip
def test_the_api_is_found_wherever_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    settings = Settings(data_dir=tmp_path, port=free_port(), **changes)
    env = clean_env() | {
        "SAESCOPE_DATA_DIR": str(tmp_path),
        "SAESCOPE_PORT": str(settings.port),
        "SAESCOPE_HOST": settings.host,
        "SAESCOPE_ALLOWED_HOSTS": ",".join(settings.allowed_hosts),
    }
    migrate(settings.shelf_url)
    with closing(open_shelf(settings.shelf_url)) as shelf:
        keys.create(shelf, "", "admin")  # Beyond loopback it does not start without.
    deadline = time.monotonic() + 60
    server = subprocess.Popen([SAESCOPE, "serve"], env=env, stderr=subprocess.DEVNULL)
    try:
        when_ready(settings, "/healthz", lambda: time.monotonic() > deadline)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_refused(busy_port: int) -> None:
    with pytest.raises(Unavailable, match=f"Port {busy_port} on 127.0.0.1 .*SAESCOPE_PORT"):
        checks.with_ports(Settings(port=busy_port))
    live = Settings(port=0, live_url=f"http://127.0.0.1:{busy_port}")
    with pytest.raises(Unavailable, match=f"Port {busy_port}.*SAESCOPE_LIVE_URL"):
        checks.with_ports(live)


def test_free_ports_are_found_unless_they_are_named() -> None:
    found = checks.with_ports(Settings(port=0))
    assert found.port > 0
    assert found.live_url != Settings().live_url
    named = checks.with_ports(found)
    assert (named.port, named.live_url) == (found.port, found.live_url)


RUN = "import sys; sys.path[:0] = {path!r}; from app.cli.main import main; main()"


@pytest.mark.parametrize(("package", "command"), [
    ("typer", "gc"), ("sqlalchemy", "gc"), ("pydantic-settings", "gc"), ("fastapi", "serve"),
    ("torch", "up"), ("jinja2", "up"),
])  # fmt: skip
def test_a_missing_dependency_is_named(tmp_path: Path, package: str, command: str) -> None:
    without = {file.parts[0] for file in files(package) or []}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name not in without:
            (tmp_path / entry.name).symlink_to(entry)
    code = RUN.format(path=[str(tmp_path), str(Path(app.__file__).parents[1])])
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, command],
        env=clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path / "data")},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"saescope: {package} is not installed for {sys.executable}; run")
    assert ran.stderr.count("\n") == 1


def test_the_data_folder_has_one_holder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    held = pytest.raises(Conflict, match=f"process {os.getpid()}")
    with only_one(settings), held, only_one(settings):
        raise AssertionError("held twice")
    with only_one(settings):
        assert not jobs_worker_runs(settings)


SLEEPER = "import time, sys; print('here', flush=True); time.sleep(600)"
PARENT = """
import os, subprocess, sys
command = [sys.executable, {leash!r}, str(os.getpid()), sys.executable, "-c", {sleeper!r}]
child = subprocess.Popen(command, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def test_a_leashed_process_dies_with_its_parent() -> None:
    code = PARENT.format(leash=str(LEASH), sleeper=SLEEPER)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "here\n"
    parent.kill()
    parent.wait()
    _gone(pid)


def test_a_leash_without_its_parent_runs_nothing(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    command = [sys.executable, "-c", f"open({str(touched)!r}, 'w')"]
    nobody = "1" if os.getppid() != 1 else "2"
    subprocess.run([sys.executable, str(LEASH), nobody, *command], check=True)
    assert not touched.exists()


def test_a_watching_leash_gives_the_exit_code_back() -> None:
    """The way of systems without a death signal."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert watch(os.getppid(), [sys.executable, "-c", "raise SystemExit(7)"]) == 7
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_child_is_started_again_and_ended(tmp_path: Path) -> None:
    said: list[str] = []
    code = "import os, sys; print('WARNING', os.getppid()); sys.exit(3)"
    child = Child("test", ["-c", code], dict(os.environ), tmp_path / "log", said.append)
    _until(child, lambda: sum("exit code 3" in line for line in said) >= 3)
    pauses = [line.split(" in ")[1].split(" s;")[0] for line in said if "exit code 3" in line]
    assert pauses[:3] == ["0.5", "1", "2"]
    assert any(line == f"test: WARNING {os.getpid()}" for line in said)
    assert (tmp_path / "log").read_text().count("WARNING") >= 3


def test_a_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 1_000)
    log = tmp_path / "log"
    code = "print(*range(1000), 'WARNING last', sep='\\n')"
    said: list[str] = []
    child = Child("test", ["-c", code], dict(os.environ), log, said.append)
    _until(child, lambda: any("last" in line for line in said) and child.pid is None)
    kept = Path(f"{log}.1").read_text() + log.read_text()
    assert "998\n999\n" in kept and "\n5\n" not in kept
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_100


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_child_is_ended_with_all_that_it_started(tmp_path: Path, stubborn: bool) -> None:
    said: list[str] = []
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = (
        f"{ignore}import subprocess, sys, time;"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('WARNING', c.pid, flush=True); time.sleep(600)"
    )
    child = Child("test", ["-c", code], dict(os.environ), tmp_path / "log", said.append)
    _until(child, lambda: any("WARNING" in line for line in said))
    pid, grandchild = child.pid, int(said[-1].split()[-1])
    assert pid
    child.signal(signal.SIGTERM)
    deadline = time.monotonic() + 2
    child.end(lambda: time.monotonic() > deadline)
    _gone(pid)
    _gone(grandchild)
    assert any("is killed" in line for line in said) == stubborn


def test_the_guide_waits_for_its_database(
    tmp_path: Path, postgres: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The database takes no connections for a while, as while its server restarts."""
    url = postgres()
    name = make_url(url).database
    server = ServerProcess(Settings(data_dir=tmp_path, database_url=url))
    settings = Settings(data_dir=tmp_path, database_url=url, port=urlsplit(server.url).port or 0)
    stop = threading.Event()
    guide = threading.Thread(target=_guide, args=[settings, stop])
    admin = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        guide.start()
        try:
            _told(capfd, "The database does not answer (", 2)
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            migrate(url)
            server.start()
            _told(capfd, "The API answers at", 1)
        finally:
            stop.set()
            guide.join(30)
            server.stop()
    admin.dispose()


def _told(capfd: pytest.CaptureFixture[str], sentence: str, times: int) -> None:
    """Wait until something was said so many times."""
    told, deadline = "", time.monotonic() + 60
    while told.count(sentence) < times:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
        told += capfd.readouterr().err


def _saescope(*command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SAESCOPE, *command], env=env, check=False, capture_output=True, text=True, timeout=120
    )


def _until(child: Child, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        child.tick()
        time.sleep(0.02)


def _gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while pid_exists(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)
