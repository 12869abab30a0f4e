"""Every way of keeping text gives the same texts; what cannot be read is named."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from fsspec.implementations.dirfs import DirFileSystem
from huggingface_hub import constants
from pyarrow import ipc, parquet

from app.errors import Problem
from worker.text.read import read_hub_texts, read_texts

TEXTS = [f"{word} {number} é\n学" for number in range(40) for word in ("One", "Two", "Three")]
ROWS = {"id": list(range(len(TEXTS) + 2)), "body": [None, *TEXTS, " "]}


def one_parquet(folder: Path) -> Path:
    parquet.write_table(pa.table(ROWS), folder / "a.parquet", row_group_size=7)
    return folder / "a.parquet"


def dictionary_parquet(folder: Path) -> Path:
    column = pa.array(ROWS["body"]).dictionary_encode()
    parquet.write_table(pa.table({"body": column}), folder / "a.parquet")
    return folder / "a.parquet"


def one_jsonl(folder: Path) -> Path:
    lines = [json.dumps({"id": i, "body": b}) for i, b in zip(*ROWS.values(), strict=True)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder / "a.jsonl"


def saved_dataset(folder: Path) -> Path:
    dataset = Dataset.from_dict(ROWS)
    dataset.save_to_disk(folder / "saved", num_shards=3)
    # What `map` leaves beside the data.
    Dataset.from_dict({"body": ["cached"]}).save_to_disk(folder / "other")
    (folder / "other" / "data-00000-of-00001.arrow").rename(folder / "saved" / "cache-1.arrow")
    return folder / "saved"


def saved_splits(folder: Path) -> Path:
    other = Dataset.from_dict({"body": ["of another split"]})
    splits = DatasetDict({"test": other, "train": Dataset.from_dict(ROWS)})
    splits.save_to_disk(folder / "saved")
    return folder / "saved"


def shards(folder: Path) -> Path:
    """As on the hub: shards in a folder, and things that are no text beside them."""
    data = folder / "cloned" / "data"
    data.mkdir(parents=True)
    for number in range(3):
        part = pa.table({"body": TEXTS[40 * number : 40 * number + 40]})
        parquet.write_table(part, data / f"train-{number:05d}-of-00003.parquet")
    (folder / "cloned" / "README.md").write_text("# Data")
    (folder / "cloned" / ".git").mkdir()
    (folder / "cloned" / ".git" / "a.txt").write_text("hidden")
    return folder / "cloned"


def mixed(folder: Path) -> Path:
    lines = [json.dumps({"body": text}) for text in TEXTS]
    (folder / "mixed").mkdir()
    (folder / "mixed" / "1.jsonl").write_text("\n".join(lines[:10]))
    packed = gzip.compress("\n".join(lines[10:50]).encode())
    (folder / "mixed" / "2.jsonl.gz").write_bytes(packed)
    (folder / "mixed" / "3.txt").write_text("\n")
    parquet.write_table(pa.table({"body": TEXTS[50:]}), folder / "mixed" / "4.parquet")
    return folder / "mixed"


@pytest.mark.parametrize(
    "make",
    [one_parquet, dictionary_parquet, one_jsonl, saved_dataset, saved_splits, shards, mixed],
)
def test_every_kind_gives_the_same_texts(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert list(read_texts(make(tmp_path), "body")) == TEXTS


@pytest.fixture
def hub(tmp_path: Path) -> DirFileSystem:
    """A folder laid out as the hub lays out the Parquet files of its datasets."""
    for dataset, folders in {
        "one": ["default/train"],
        "large": ["en/partial-train", "en/test"],
        "two": ["en/train", "fr/train"],
        "tested": ["default/test"],
    }.items():
        for folder in folders:
            path = tmp_path / "datasets" / f"owner/{dataset}@refs/convert/parquet" / folder
            path.mkdir(parents=True)
            for number, half in enumerate((TEXTS[:50], TEXTS[50:])):
                write(path / f"{number:04d}.parquet", {"body": half})
    return DirFileSystem(str(tmp_path))


@pytest.mark.parametrize("dataset", ["owner/one", "owner/large", "owner/two/fr"])
def test_a_dataset_of_the_hub_gives_the_same_texts(hub: DirFileSystem, dataset: str) -> None:
    assert list(read_hub_texts(dataset, "body", hub)) == TEXTS


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ("owner/one", r"0000\.parquet has no column `text` \(columns there: `body`\); name"),
        ("owner/two", r"has the configurations `en`, `fr`; write hub:OWNER/NAME/CONFIG"),
        ("owner/two/de", r"owner/two/de cannot be read from the hub"),
        ("owner/tested", r"has no split `train` but `test`; download"),
        (
            "owner/nothing",
            r"dataset owner/nothing cannot be read from the hub \(.*\); check its id",
        ),
        ("one", r"hub:one names no dataset; write hub:OWNER/NAME"),
        ("/etc", r"names no dataset"),
        ("owner/one/../../..", r"names no dataset"),
    ],
)
def test_what_the_hub_does_not_give_is_refused_at_once(
    hub: DirFileSystem, dataset: str, sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence) as refused:
        read_hub_texts(dataset, "text", hub)
    assert refused.value.status == 400


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Problem, match="dataset owner/name cannot be read from the hub"):
        read_hub_texts("owner/name")


@pytest.mark.hub
def test_the_hub_itself() -> None:
    try:
        texts = read_hub_texts("roneneldan/TinyStories")
    except Problem as problem:
        pytest.skip(problem.detail)
    assert len(next(texts)) > 100


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """One row group of 30 MB."""
    path = tmp_path / "large.parquet"
    texts = pa.array([f"{number} " + "word " * 400 for number in range(15_000)])
    parquet.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False)
    size = texts.nbytes
    del texts
    before, most = pa.total_allocated_bytes(), 0
    for _ in read_texts(path):
        most = max(most, pa.total_allocated_bytes() - before)
    assert size > 29e6 > 6 * most > 0


def write(path: Path, table: dict) -> Path:
    parquet.write_table(pa.table(table), path)
    return path


def cut_short(folder: Path) -> Path:
    path = write(folder / "a.parquet", {"text": ["a"]})
    path.write_bytes(path.read_bytes()[:-10])
    return path


def cut_stream(folder: Path) -> Path:
    path = folder / "a.arrow"
    path.write_bytes(b"no arrow")
    return path


def one_bad_shard(folder: Path) -> Path:
    write(folder / "1.parquet", {"text": ["a"]})
    write(folder / "2.parquet", {"txt": ["b"]})
    return folder


def no_train(folder: Path) -> Path:
    DatasetDict({"test": Dataset.from_dict({"text": ["a"]})}).save_to_disk(folder / "saved")
    return folder / "saved"


def broken_state(folder: Path) -> Path:
    Dataset.from_dict({"text": ["a"]}).save_to_disk(folder / "saved")
    (folder / "saved" / "state.json").write_text("[]")
    return folder / "saved"


def wide(folder: Path) -> Path:
    return write(folder / "a.parquet", {f"column{number}": [1] for number in range(500)})


def empty_folder(folder: Path) -> Path:
    (folder / "a.csv").write_text("text\na")
    return folder


AT_ONCE: list[tuple[Callable[[Path], Path], str]] = [
    (
        lambda folder: write(folder / "a.parquet", {"id": [1], "body": ["a"]}),
        r"a\.parquet has no column `text` \(columns there: `id`, `body`\); name the column",
    ),
    (
        lambda folder: write(folder / "a.parquet", {"text": [1]}),
        r"a\.parquet: the column `text` holds int64, not text; name a column of text",
    ),
    (cut_short, r"a\.parquet cannot be read \(.*\); check that the file is whole"),
    (cut_stream, r"a\.arrow cannot be read \(.*\); check that the file is whole"),
    (one_bad_shard, r"2\.parquet has no column `text`"),
    (no_train, r"saved has no split `train` but test; give the folder of a split"),
    (broken_state, r"state\.json in saved does not list"),
    (wide, r"`column19`, 480 more\); name"),
    (empty_folder, r"holds no file of text; use \.txt"),
]


@pytest.mark.parametrize(("make", "sentence"), AT_ONCE)
def test_what_cannot_be_read_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence) as refused:
        read_texts(make(tmp_path))
    assert refused.value.status == 400
    assert "\n" not in refused.value.detail and len(refused.value.detail) < 500


@pytest.mark.parametrize("texts", [[], [None, " "]])
def test_a_column_without_text_is_refused(tmp_path: Path, texts: list[str | None]) -> None:
    path = write(tmp_path / "a.parquet", {"text": pa.array(texts, pa.string())})
    with pytest.raises(Problem, match=r"a\.parquet holds no text"):
        list(read_texts(path))


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    column = pa.array([b"ok", b"\xff"]).view(pa.string())
    path = write(tmp_path / "a.parquet", {"text": column})
    with pytest.raises(Problem, match=r"a\.parquet cannot be read \(Invalid UTF8"):
        list(read_texts(path))


def test_offsets_that_point_out_of_an_arrow_stream_are_refused(tmp_path: Path) -> None:
    """Arrow follows them into memory that is not ours."""
    path, table = tmp_path / "a.arrow", pa.table({"body": ["abc", "defg"]})
    with ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
    right, wrong = (struct.pack("<3i", 0, 3, end) for end in (7, 2**31 - 1))
    assert path.read_bytes().count(right) == 1
    assert list(read_texts(path, "body")) == ["abc", "defg"]
    path.write_bytes(path.read_bytes().replace(right, wrong))
    with pytest.raises(Problem, match=r"a\.arrow cannot be read"):
        list(read_texts(path, "body"))


def test_a_page_that_is_damaged_is_named_where_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {number} of many" for number in range(2_000)]})
    parquet.write_table(table, path, row_group_size=1_000, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    second = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[second + 200 : second + 300] = bytes(100)
    path.write_bytes(content)
    texts = read_texts(path)
    assert next(texts) == "text 0 of many"
    with pytest.raises(
        Problem, match=r"a\.parquet cannot be read \(.*\); check that the file is whole"
    ):
        list(texts)
