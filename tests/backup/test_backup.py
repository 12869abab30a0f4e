"""Backup and restore: everything comes back, on either database, or nothing is touched."""

import io
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.backup.restore import restore
from app.backup.save import backup
from app.contract.jobs import LoadSpec
from app.errors import Conflict, Invalid
from app.jobs import Jobs
from app.settings import Settings
from app.store import catalog, lists, lookup, progress, read, splits, vectors, write
from app.store.engine import Shelf, open_shelf
from app.store.migrate import migrate
from app.store.use import using
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.store import builders, split_builders

SPEC = LoadSpec(model="tiny", path="bundled:tiny")


@pytest.fixture
def settings(shelf_url: str, tmp_path: Path) -> Settings:
    """A data folder and a database with a model, an SAE, its evidence and files."""
    settings = filled_settings(shelf_url, tmp_path / "data")
    shelf = open_shelf(settings.shelf_url)
    model = builders.model_record(path=str(weights(settings.data_dir / "models" / ("f" * 16))))
    sae = weights(settings.data_dir / "saes" / ("a" * 16))
    write.put_model(shelf, model, builders.vocabulary())
    write.put_sae(shelf, replace(builders.sae_record(), path=str(sae)))
    builders.fill(shelf)
    shelf.close()
    return settings


def weights(folder: Path) -> Path:
    """A folder with a file."""
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def filled_settings(url: str, data_dir: Path) -> Settings:
    """Settings of a data folder with a migrated shelf."""
    data_dir.mkdir()
    postgres = None if url.startswith("sqlite") else url
    settings = Settings(data_dir=data_dir, database_url=postgres)
    prepare(settings.shelf_url)
    return settings


@pytest.fixture(params=["sqlite", "postgres"])
def elsewhere(
    request: pytest.FixtureRequest, postgres: Callable[[], str], tmp_path: Path
) -> Settings:
    """An empty data folder and database of either kind."""
    url = postgres() if request.param == "postgres" else None
    return Settings(data_dir=tmp_path / "elsewhere", database_url=url)


def test_everything_comes_back_on_either_database(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    before = open_shelf(settings.shelf_url)
    jobs_before = Jobs(settings.jobs_url, before)
    catalog.replace(before, "one", [builders.catalog_entry()])
    progress.put_progress(before, jobs_before.submit(SPEC).id, "check", 0.5)
    split = split_builders.put_split(before, "run-1", "run-1")
    name = ("tiny", "0-res", 3)
    kept = lists.new(before, "me", "mine", "", None, {name: "a feature", ("gone", "0-x", 1): ""})
    vector = vectors.new(
        before, "me", "tiny", "0-neuronpedia-resid-pre", "up", "h", 2.5, np.ones(8)
    )
    backup(settings, tmp_path / "all.tar.gz")
    restore(elsewhere, tmp_path / "all.tar.gz")
    assert journals(elsewhere) <= {"wal"}
    after = open_shelf(elsewhere.shelf_url)
    for index in (0, 7, 63):
        assert feature(before, index) == feature(after, index)
    assert splits.is_complete(after, split) and splits.n_stored(after, split, 0, 64) == 64
    sae_after, sae_before = read.sae(after, "tiny", "0-res"), read.sae(before, "tiny", "0-res")
    assert replace(sae_after, path="") == replace(sae_before, path="")
    assert read.vocabulary(after, "tiny") == read.vocabulary(before, "tiny")
    found = read.features(after, "tiny", "0-res", q="promotes tok7")
    assert found == read.features(before, "tiny", "0-res", q="promotes tok7")
    assert found.items
    assert catalog.entries(after, "gpt2").items == [builders.catalog_entry()]
    assert lists.get(after, kept.id) == lists.get(before, kept.id)
    assert lists.holding(after, "me", name)[0][1] == kept
    (restored,) = vectors.owned(after, "me")
    assert (restored.number, restored.values.tolist()) == (vector.number, [1.0] * 8)
    for folder in (Path(read.model(after, "tiny").path), Path(sae_after.path)):
        assert folder.is_relative_to(elsewhere.data_dir)
        assert (folder / "weights.safetensors").read_bytes() == b"weights"
    jobs_after = Jobs(elsewhere.jobs_url, after)
    assert jobs_after.list() == jobs_before.list()
    (job,) = jobs_after.list()[0]
    assert progress.get_progress(after, [job.id])[job.id].done == 0.5
    # The counters go on after the restored numbers.
    lists.add(after, "me", kept.id, {("tiny", "0-res", 4): ""})
    assert [item.feature for item in lists.get(after, kept.id)[1]] == [3, 1, 4]
    tokens = builders.corpus(id="d" * 64)
    write.put_corpus(after, tokens.record, tokens.flat, tokens.offsets)
    builders.put_run(after, tokens, "run-2", seed=5)
    assert feature(after, 0).run_id == "run-2"
    for open_one in (jobs_before, jobs_after, before, after):
        open_one.close()


def journals(settings: Settings) -> set[str]:
    """How the SQLite files of a data folder keep their journals."""
    found = set()
    for path in settings.data_dir.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            found.add(connection.execute("PRAGMA journal_mode").fetchone()[0])
    return found


def feature(shelf: Shelf, index: int):
    """A feature of the one SAE."""
    return lookup.feature(shelf, "tiny", "0-res", index)


def contents(settings: Settings) -> tuple:
    """All that a failed restore must leave alone."""
    shelf = open_shelf(settings.shelf_url)
    files = {
        path.relative_to(settings.data_dir): path.read_bytes()
        for path in settings.data_dir.rglob("*")
        if path.is_file() and path.name.partition(".")[0] not in ("shelf", "jobs", "use")
    }
    found = files, [feature(shelf, index) for index in range(64)], read.models(shelf)
    shelf.close()
    return found


def test_data_is_not_overwritten_unless_forced(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "old.tar.gz")
    before = contents(settings)
    shelf = open_shelf(settings.shelf_url)
    write.delete_model(shelf, "tiny")
    write.put_model(shelf, builders.model_record("new"), builders.vocabulary())
    with pytest.raises(Conflict, match="--force"):
        restore(settings, tmp_path / "old.tar.gz")
    assert [model.id for model in read.models(shelf).items] == ["new"]
    shelf.close()
    restore(settings, tmp_path / "old.tar.gz", force=True)
    assert contents(settings) == before


@pytest.mark.parametrize("what", ["list", "vector"])
def test_what_people_keep_is_not_overwritten(
    settings: Settings, elsewhere: Settings, tmp_path: Path, what: str
) -> None:
    backup(settings, tmp_path / "old.tar.gz")
    elsewhere.data_dir.mkdir()
    migrate(elsewhere.shelf_url)
    shelf = open_shelf(elsewhere.shelf_url)
    if what == "list":
        lists.new(shelf, "me", "mine", "", None, {})
    else:
        vectors.new(shelf, "me", "m", "0-neuronpedia-resid-pre", "up", "h", 1, np.ones(2))
    shelf.close()
    with pytest.raises(Conflict, match="--force"):
        restore(elsewhere, tmp_path / "old.tar.gz")


def rewritten(source: Path, change: Callable[[tarfile.TarInfo, bytes], bytes | None]) -> Path:
    """A copy of an archive with some members changed, or left out (None)."""
    target = source.with_name("changed.tar.gz")
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            body = change(member, old.extractfile(member).read())
            if body is not None:
                member.size = len(body)
                new.addfile(member, io.BytesIO(body))
    return target


def flip(member: tarfile.TarInfo, body: bytes) -> bytes:
    """Change one bit of a model's weights."""
    return bytes([body[0] ^ 1]) + body[1:] if "weights" in member.name else body


def drop(member: tarfile.TarInfo, body: bytes) -> bytes | None:
    """Leave a file out."""
    return None if "weights" in member.name else body


def escape(member: tarfile.TarInfo, body: bytes) -> bytes:
    """Give a file a name that leads out of the folder."""
    if "weights" in member.name:
        member.name = "models/../../../escaped"
    return body


def headless(member: tarfile.TarInfo, body: bytes) -> bytes | None:
    """Leave the checksums out."""
    return None if member.name == "manifest.json" else body


def garbled(member: tarfile.TarInfo, body: bytes) -> bytes:
    """Put something else where the checksums are."""
    return b"not JSON" if member.name == "manifest.json" else body


def unlisted(member: tarfile.TarInfo, body: bytes) -> bytes:
    """Put JSON that is no list of checksums in its place."""
    return b'{"format": 1, "sha256": 3}' if member.name == "manifest.json" else body


def twice(member: tarfile.TarInfo, body: bytes) -> bytes:
    """Give every file the name of the first."""
    member.name = "shelf.db"
    return body


@pytest.mark.parametrize("change", [flip, drop, escape, headless, garbled, unlisted, twice])
def test_a_changed_archive_is_refused_and_nothing_is_touched(
    settings: Settings, tmp_path: Path, change: Callable
) -> None:
    backup(settings, tmp_path / "all.tar.gz")
    before = contents(settings)
    with pytest.raises(Invalid, match="Nothing was changed"):
        restore(settings, rewritten(tmp_path / "all.tar.gz", change), force=True)
    assert contents(settings) == before
    assert not (tmp_path / "escaped").exists()


def test_a_truncated_archive_is_refused(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "all.tar.gz")
    whole = (tmp_path / "all.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Invalid, match="Nothing was changed"):
        restore(settings, tmp_path / "half.tar.gz", force=True)


def test_a_backup_is_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(Conflict, match="there already"):
        backup(settings, tmp_path / "mine")


def test_what_is_in_use_is_not_replaced(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "all.tar.gz")
    shelf = open_shelf(settings.shelf_url)
    jobs = Jobs(settings.jobs_url, shelf)
    job = jobs.submit(SPEC).id
    jobs.close()
    with using(settings.data_dir), pytest.raises(Conflict, match="is in use: `saescope serve`"):
        restore(settings, tmp_path / "all.tar.gz", force=True)
    if shelf.is_sqlite:
        read.models(shelf)
        with pytest.raises(Conflict, match=r"shelf\.db is in use or damaged"):
            restore(settings, tmp_path / "all.tar.gz", force=True)
        assert journals(settings) == {"wal"}
    jobs = Jobs(settings.jobs_url, shelf)
    assert jobs.get(job).state == "queued"
    jobs.close()
    shelf.close()


def test_jobs_in_use_are_seen_before_the_shelf_is_replaced(tmp_path: Path) -> None:
    settings = filled_settings("sqlite://", tmp_path / "data")
    backup(settings, tmp_path / "empty.tar.gz")
    shelf = open_shelf(settings.shelf_url)
    builders.fill(shelf)
    Jobs(settings.jobs_url, shelf).close()
    shelf.close()
    with closing(sqlite3.connect(settings.data_dir / "jobs.db")) as connection:
        connection.execute("SELECT * FROM workflow_status").fetchall()
        with pytest.raises(Conflict, match=r"jobs\.db is in use or damaged"):
            restore(settings, tmp_path / "empty.tar.gz", force=True)
    assert [model.id for model in read.models(shelf).items] == ["tiny"]
    shelf.close()


def test_an_api_that_runs_alone_is_seen(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "all.tar.gz")
    server = ServerProcess(settings).start()
    try:
        with pytest.raises(Conflict, match="`saescope serve` runs on it"):
            restore(settings, tmp_path / "all.tar.gz", force=True)
    finally:
        server.stop()
    restore(settings, tmp_path / "all.tar.gz", force=True)


def test_a_data_folder_may_be_spelled_in_another_way(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(settings.data_dir)
    backup(settings.model_copy(update={"data_dir": link}), tmp_path / "all.tar.gz")
    restore(elsewhere, tmp_path / "all.tar.gz")
    shelf = open_shelf(elsewhere.shelf_url)
    assert (Path(read.model(shelf, "tiny").path) / "weights.safetensors").exists()
    shelf.close()


def test_a_model_outside_the_data_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    shelf = open_shelf(settings.shelf_url)
    outside = weights(tmp_path / "models" / ("e" * 16))
    model = builders.model_record("other", "e" * 64, path=str(outside))
    write.put_model(shelf, model, builders.vocabulary())
    shelf.close()
    with pytest.raises(Conflict, match="is on the shelf but not in"):
        backup(settings, tmp_path / "all.tar.gz")
    assert not (tmp_path / "all.tar.gz").exists()
