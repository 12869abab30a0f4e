"""Token strings of a source: as many as tokenizers have, and no more."""

import json
from pathlib import Path

import pytest

from app.contract.jobs import ExportSpec, ImportSpec
from app.errors import Invalid
from app.store.engine import Shelf
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run
from worker.neuronpedia import strings


@pytest.mark.parametrize("last", [2**16 - 1, 2**16])
def test_sources_with_more_strings_than_two_bytes_number_come_back(
    run: Run, shelf: Shelf, tmp_path: Path, last: int
) -> None:
    folder = made.write(tmp_path / "given", [0, 1], gz=False)
    path = folder / "activations/batch-0.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {token for row in rows for token in row["tokens"]}
    neurons = (folder / "features/batch-0.jsonl").read_text().splitlines()
    known |= {one for row in map(json.loads, neurons) for one in row["pos_str"] + row["neg_str"]}
    more = [f"#{number}" for number in range(last + 1 - len(known))]
    for at in range(0, len(more), 16_384):
        tokens = more[at : at + 16_384]
        values = [*range(1, len(tokens) + 1)]
        rows.append(rows[-1] | {"id": f"m{at}", "tokens": tokens, "values": values})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(ImportSpec(path=str(folder)))
    assert result["strings"] == last + 1
    run(ExportSpec(model=made.MODEL, sae=made.SOURCE, path=str(tmp_path / "out")))
    assert made.contents(tmp_path / "out") == made.contents(folder)


@pytest.mark.parametrize(("bound", "most"), [("MOST", 10), ("MOST_CHARACTERS", 20)])
def test_endlessly_many_strings_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(strings, bound, most)
    folder = made.write(tmp_path / "given", [*range(40)], gz=False)
    with pytest.raises(Invalid, match=r"line \d+: with this row there are .* at most"):
        run(ImportSpec(path=str(folder)))
