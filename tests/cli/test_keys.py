"""`saescope keys`, and starting where others can reach the service."""

import subprocess
import sys
from pathlib import Path

import httpx

from app.keys import split
from app.settings import Settings
from app.store import audit
from app.store.engine import open_shelf
from tests.api.test_access import until
from tests.cli.test_catalog import ROOT
from tests.flow.service import clean_env, free_port


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = clean_env() | {"SAESCOPE_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-m", "app.cli.main", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "--scope", "infer", "--name", "Ada", "--per-day", "1000")
    parts = split(made.stdout.strip())
    assert parts and len(parts[1]) == 64
    id, secret = parts
    listed = run(tmp_path, "keys", "list").stdout
    assert listed.split("  ") == [id, "infer", "never used", "1,000 a day", "Ada\n"]
    assert secret not in listed
    assert run(tmp_path, "keys", "revoke", id).returncode == 0
    assert "revoked 20" in run(tmp_path, "keys", "list").stdout
    lines = run(tmp_path, "keys", "audit").stdout.splitlines()
    assert [line.split("  ")[2:] for line in lines] == [
        [f"keys revoke {id}", "done"],
        [f"keys create {id} --scope infer", "done"],
    ]


def test_what_commands_do_with_jobs_is_written_down_and_kept_bounded(tmp_path: Path) -> None:
    job = run(tmp_path, "verify", "m", "s", "--detach").stdout.strip()
    assert run(tmp_path, "jobs", "cancel", job).returncode == 0
    assert run(tmp_path, "jobs", "delete", job).returncode == 0
    shelf = open_shelf(Settings(data_dir=tmp_path).shelf_url)
    actions = [one.action for one in audit.latest(shelf, 9)]
    assert actions == [f"jobs delete {job}", f"jobs cancel {job}", f"verify: job {job}"]
    audit.trim(shelf, kept=2)
    assert [one.action for one in audit.latest(shelf, 9)] == actions[:2]
    assert run(tmp_path, "gc").returncode == 0
    assert [one.action for one in audit.latest(shelf, 9)] == actions[:2]
    shelf.close()


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    refused = run(tmp_path, "keys", "create", "--scope", "root")
    assert refused.returncode == 1
    assert refused.stderr == "saescope: --scope is 'root'; allowed: read, infer, admin.\n"
    unknown = run(tmp_path, "keys", "revoke", "nobody")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "There is no key 'nobody'" in unknown.stderr


def test_it_does_not_start_where_others_reach_it_without_a_key(tmp_path: Path) -> None:
    elsewhere = {"SAESCOPE_HOST": "0.0.0.0", "SAESCOPE_PORT": str(free_port())}
    for command in ("serve", "up"):
        refused = run(tmp_path, command, **elsewhere)
        assert refused.returncode == 1
        assert "saescope keys create --scope admin" in refused.stderr
    key = run(tmp_path, "keys", "create", "--scope", "admin").stdout.strip()
    env = clean_env() | {"SAESCOPE_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), **elsewhere}
    command = [sys.executable, "-m", "app.cli.main", "serve"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{elsewhere['SAESCOPE_PORT']}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=40), base_url=url) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/v1/models").status_code == 401
            headers = {"authorization": f"Bearer {key}"}
            assert client.get("/v1/models", headers=headers).status_code == 200
            run(tmp_path, "keys", "revoke", key.split("_")[1])
            # Nobody's now, not everyone's.
            until(401, lambda: client.get("/v1/models", headers=headers))
            assert client.get("/v1/models").status_code == 401
    finally:
        process.terminate()
        process.wait(30)
