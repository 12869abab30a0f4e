"""What `docs/scale.md` says is what its program computes."""

from pathlib import Path

from bench.scale import tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_documents_tables_are_the_programs() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written.count("|---|") >= len(tables())
    for table in tables():
        assert table in written
