"""An upgrade on Postgres under load: a later version changes a table that lookups read and that somebody
holds, and no request fails; the version before it works on, and starts again."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

import migrations
from app.settings import Settings
from tests.api.server import ServerProcess
from tests.conftest import migrated
from tests.jobs.crew import until
from tests.store import builders

ROOT = Path(migrations.__file__).parents[1]
LATER = f"{int(migrations.NEWEST) + 1:04d}"
REVISION = f'''
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{LATER}", "{migrations.NEWEST}", None, None


def upgrade() -> None:
    op.add_column("features", sa.Column("later", sa.Text(), nullable=True))
'''
INDEX = f'''
from alembic import op

revision, down_revision, branch_labels, depends_on = "{LATER}", "{migrations.NEWEST}", None, None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.drop_index("ix_later", if_exists=True, postgresql_concurrently=True)
        op.create_index("ix_later", "features", ["density"], postgresql_concurrently=True)
        op.execute("SET lock_timeout = '1s'")
'''
BUILDS = """
    SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""
MIGRATE = "import sys; from app.store.migrate import migrate; migrate(sys.argv[1])"
SERVE = "from app.cli.service import serve; serve()"
PATH = "/v1/models/tiny/saes/0-res/features"

pytestmark = pytest.mark.timeout(300)


def later_version(folder: Path, revision: str = REVISION) -> Path:
    """A copy of the program with one revision more."""
    for part in ("app", "migrations"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "migrations" / "versions" / f"{LATER}_later.py").write_text(revision)
    init = folder / "migrations" / "__init__.py"
    init.write_text(re.sub(r'NEWEST = "\d+"', f'NEWEST = "{LATER}"', init.read_text()))
    return folder


class Load:
    """Requests without a pause, from threads of their own."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[int | str] = Counter()
        """How many of each status, and of what came instead of an answer."""
        self._stop = threading.Event()
        paths = (f"{url}{PATH}/3", f"{url}{PATH}?limit=5")
        self._threads = [threading.Thread(target=self._ask, args=[path]) for path in paths]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.01):
                try:
                    answer = client.get(url).status_code
                except httpx.HTTPError as error:
                    answer = repr(error)
                self.answers[answer] += 1

    def goes_on(self) -> None:
        """Until many more requests were answered."""
        before = self.answers.total()
        until(lambda: self.answers.total() > before + 50)

    def stop(self) -> Counter[int | str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.answers


def test_no_request_fails_while_a_later_version_changes_a_table_in_use(
    postgres: Callable[[], str], tmp_path: Path
) -> None:
    url = postgres()
    with migrated(url) as shelf:
        builders.fill(shelf)
    settings = Settings(data_dir=tmp_path, database_url=url)
    old = ServerProcess(settings, PYTHONPATH=str(ROOT)).start()
    new = ServerProcess(settings, PYTHONPATH=str(later_version(tmp_path / "later")))
    starting = threading.Thread(target=new.start, args=[SERVE])
    load = Load(old.url)
    try:
        with psycopg.connect(url.replace("+psycopg", "")) as holder:
            holder.execute("SELECT 1 FROM features LIMIT 1")
            starting.start()
            until(lambda: new.log.exists() and "The tables are in use" in new.log.read_text())
            load.goes_on()
            with pytest.raises(httpx.TransportError):
                new.client.get("/healthz")
        starting.join(120)
        load.goes_on()
        both = [server.client.get(f"{PATH}/3").json() for server in (old, new)]
        assert both[0] == both[1] and both[0]["index"] == 3
        assert load.stop().keys() == {200}
        old.stop()
        assert old.start(SERVE).client.get(f"{PATH}/3").json() == both[0]
    finally:
        load.stop()
        for server in (old, new):
            server.stop()


def test_an_index_is_built_beside_who_uses_its_table_and_who_waits_to_migrate(
    postgres: Callable[[], str], tmp_path: Path
) -> None:
    url = postgres()
    with migrated(url) as shelf:
        builders.fill(shelf)
    later = later_version(tmp_path / "later", INDEX)
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as look, ExitStack() as processes:
        with psycopg.connect(plain) as holder:
            holder.execute("LOCK features IN ROW EXCLUSIVE MODE")
            first = processes.enter_context(migrating(later, url, tmp_path / "first.log"))
            until(lambda: look.execute(BUILDS).fetchone())
            second = processes.enter_context(migrating(later, url, tmp_path / "second.log"))
            until(lambda: "being changed by another" in (tmp_path / "second.log").read_text())
        assert [process.wait(120) for process in (first, second)] == [0, 0]
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_later'::regclass"
        assert look.execute(valid).fetchone() == (True,)


@contextmanager
def migrating(version: Path, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a version of the program that migrates and ends."""
    command = [sys.executable, "-P", "-c", MIGRATE, url]
    env = os.environ | {"PYTHONPATH": str(version)}
    with log.open("wb") as told:
        process = subprocess.Popen(command, env=env, stdout=told, stderr=told)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
