"""Reading a corpus: formats, and the sentence that every kind of bad input gets."""

import gzip
from pathlib import Path

import pytest

from app.errors import Problem
from worker.text import lines
from worker.text.read import read_texts


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_txt_is_a_document_a_line(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "\ufeffone \r\n\n   \n  deux é\nlast")
    assert list(read_texts(path)) == ["one ", "  deux é", "last"]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_jsonl_is_an_object_a_line(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", '{"body": "one\\ntwo"}\n\n{"body": ""}\n{"body": "é"}')
    assert list(read_texts(path, "body")) == ["one\ntwo", "é"]


def test_it_streams(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "good"}\nbroken\n')
    texts = read_texts(path)
    assert next(texts) == "good"
    with pytest.raises(Problem, match=r"a\.jsonl, line 2"):
        next(texts)


BAD_LINES = {
    "not json": ('{"text": "a"}\n{"text": \n', r"line 2: not JSON .* one object a line"),
    "not an object": ('["a"]\n', r"line 1: not a JSON object but \[\"a\"\]"),
    "no field": ('{"body": "a", "id": 1}\n', r"line 1: no field `text` .*`body`, `id`"),
    "not text": ('\n{"text": 3}\n', r"line 2: `text` holds int, not text"),
    "half a pair": ('{"text": "ab\\ud83d"}\n', r"line 1: `text` holds half a surrogate .* 3"),
    "not utf-8": (b'{"text": "a"}\n{"text": "\xff"}\n', r"line 2: not UTF-8 \(byte 11"),
    "too deep": ("[" * 200_000, "line 1: JSON that is too deep"),
    "too long a number": (
        '{"text": "a", "n": ' + "9" * 5_000 + "}",
        "or a number that is too long",
    ),
    "empty": ("\n \n", r"a\.jsonl holds no text"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_LINES.values(), ids=BAD_LINES)
def test_bad_content_is_named(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    path = write(tmp_path / "a.jsonl", content)
    with pytest.raises(Problem, match=sentence) as raised:
        list(read_texts(path))
    assert raised.value.status == 400
    assert "\n" not in raised.value.detail


def test_broken_gzip_is_named(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(10_000))
    path = write(tmp_path / "a.txt.gz", lines)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Problem, match=r"a\.txt\.gz is broken after line \d+ .*compress"):
        list(read_texts(path))


def test_missing_file_and_unknown_format_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="There is no file") as missing:
        read_texts(tmp_path / "a.txt")
    assert missing.value.status == 404
    with pytest.raises(Problem, match=r"a\.csv is of no format that can be read; use \.txt"):
        read_texts(write(tmp_path / "a.csv", "x"))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
def test_a_line_that_is_too_long_to_hold_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1_000)
    longest = b'{"text": "a"}' + b" " * 987
    path = write(tmp_path / name, longest + b"\r\n" + longest + b" \r\n")
    texts = read_texts(path)
    assert next(texts)
    with pytest.raises(Problem, match=rf"{name}, line 2 is longer than 1,000 bytes"):
        next(texts)
