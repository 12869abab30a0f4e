"""Files that are not as they should be: one sentence with the place, and nothing is served."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contract.jobs import ExportSpec, ImportSpec
from app.errors import Conflict, NotFound, Problem
from app.store import read
from app.store.engine import Shelf
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run, runner
from tests.store import builders

Break = Callable[[Path], object]


def _edit(name: str, number: int, **columns: object) -> Break:
    """Changes columns of a line."""

    def change(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines()
        lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **columns})
        (folder / name).write_text("\n".join(lines))

    return change


def _line(name: str, number: int, text: str) -> Break:
    """Puts another line in the place of one."""

    def change(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines()
        lines[number - 1] = text
        (folder / name).write_text("\n".join(lines))

    return change


def _swap(folder: Path) -> None:
    path = folder / "features/batch-0.jsonl"
    a, b, c, *more = path.read_text().splitlines()
    path.write_text("\n".join([a, c, b, *more]))


def _twice(folder: Path) -> None:
    rows = (folder / "features/batch-0.jsonl").read_text()
    (folder / "features/batch-2.jsonl").write_text(rows)


def _cut(folder: Path) -> None:
    path = folder / "activations/batch-1.jsonl"
    data = gzip.compress(path.read_bytes())
    path.with_suffix(".jsonl.gz").write_bytes(data[: len(data) // 2])
    path.unlink()


def _more(folder: Path, rows: list[dict]) -> None:
    """Activations of the feature that the first of a batch is of."""
    path = folder / "activations/batch-1.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    made = [json.dumps({**first, **row}) for row in rows]
    path.write_text("\n".join([path.read_text().rstrip("\n"), *made]))


def _many(folder: Path) -> None:
    _more(folder, [{"tokens": ["x"], "values": [1]}] * 1_024)


def _wide(folder: Path) -> None:
    long = {"tokens": ["x"] * 16_384, "values": [1] * 16_384}
    _more(folder, [long, *[{"tokens": ["x"], "values": [1]}] * 16])


def _pipe(folder: Path) -> None:
    path = folder / "features/batch-0.jsonl"
    path.unlink()
    os.mkfifo(path)


F, A, E, DEEP = (
    "features/batch-0.jsonl",
    "activations/batch-1.jsonl",
    "explanations/batch-0.jsonl",
    300,
)
CASES: dict[str, tuple[Break, str]] = {
    "no batch": (lambda f: (f / "features/batch-0.jsonl").unlink(), "features/batch-0.jsonl is missing"),
    "no activations": (
        lambda f: (f / "activations/batch-0.jsonl").unlink(),
        "activations/batch-0.jsonl is missing, though there is activations/batch-1.jsonl",
    ),
    "two of one": (
        lambda f: (f / "features/batch-0.jsonl.gz").write_bytes(b""),
        "are the same batch; keep one of them",
    ),
    "no source": (lambda f: (f / "source.jsonl").unlink(), "source.jsonl is missing"),
    "no model": (lambda f: (f / "model.jsonl").unlink(), "model.jsonl is missing"),
    "empty source": (lambda f: (f / "source.jsonl").write_text("\n"), "source.jsonl is empty"),
    "nameless": (_edit("source.jsonl", 1, id=None), "does not say which model and source"),
    "bad name": (_edit("source.jsonl", 1, id="a b"), "which is no id here; give one with `sae`"),
    "large source": (lambda f: (f / "source.jsonl").write_bytes(b" " * 2**21), "is larger than"),
    "no JSON": (_line(F, 2, "{"), f"{F}, line 2: this is no JSON"),
    "NaN": (_line(F, 2, '{"index": NaN}'), f"{F}, line 2: this is no JSON"),
    "infinity": (_line(A, 1, '{"index": 1e999}'), f"{A}, line 1: this is no JSON"),
    "half a surrogate": (_line(A, 1, '{"index": "\\ud800"}'), f"{A}, line 1: this is no JSON"),
    "no object": (_line(E, 1, "[]"), f"{E}, line 1: this is no JSON object"),
    "too deep": (_line(F, 1, "[" * 2000), f"{F}, line 1: this is no JSON"),
    "deep": (_edit(F, 1, new=json.loads("[" * DEEP + "]" * DEEP)), "nested too deeply"),
    "no index": (_edit(F, 1, index=None), f"{F}, line 1: `index` is 'None'; the index"),
    "an index": (_edit(F, 1, index=1.5), "`index` is '1.5'"),
    "large index": (_edit(F, 4, index=2**40), "whole number from 0 to 2097151"),
    "other model": (_edit(A, 2, modelId="x"), f"{A}, line 2: `modelId` is 'x', but this source"),
    "other source": (_edit(E, 1, layer="8-x"), "`layer` is '8-x', but this source is of '7-res-jb'"),
    "out of order": (_swap, f"{F}, line 3: feature 1 comes behind feature 2; features go up"),
    "twice": (_twice, "line 1: feature 0 is here a second time; it was at features/batch-0.jsonl"),
    "a stranger": (_edit(A, 1, index="77"), f"{A}, line 1: this is one of the activations of feature"),
    "strange words": (_edit(E, 1, index=78), "one of the explanations of feature 78, which is not"),
    "truncated": (_cut, "activations/batch-1.jsonl.gz cannot be read after line"),
    "no list": (_edit(A, 1, tokens="x"), f"{A}, line 1: `tokens` is no list"),
    "no strings": (_edit(A, 1, tokens=[1]), "`tokens` holds something that is no string"),
    "no numbers": (_edit(A, 1, values=["1"]), "`values` holds something that is no number"),
    "booleans": (_edit(A, 1, values=[True]), "`values` holds something that is no number"),
    "huge": (_edit(A, 1, tokens=["x"], values=[1e300]), "`values` holds a number beyond 3.4e38"),
    "counts": (_edit(A, 1, values=[1, 2]), "`values` has 2 entries; they belong together"),
    "no tokens": (_edit(A, 1, tokens=[], values=[]), "`tokens` has 0 entries; 1 to 16384"),
    "density": (_edit(F, 1, frac_nonzero=1.5), f"{F}, line 1: `frac_nonzero` is 1.5; it is a share"),
    "maximum": (_edit(F, 1, maxActApprox="x"), "`maxActApprox` is 'x', which is no number"),
    "large maximum": (_edit(F, 1, maxActApprox=1e200), "`maxActApprox` holds a number beyond"),
    "logits": (_edit(F, 1, pos_str=["x"]), "`pos_str` has 1 and `pos_values` has 4 entries"),
    "histogram": (_edit(F, 1, freq_hist_data_bar_values=[1]), "has 1 and `freq_hist_data_bar_heig"),
    "bars": (_edit(F, 1, logits_hist_data_bar_heights=[1, -2, 3]), "that is no count from 0"),
    "neighbors": (_edit(F, 1, topkCosSimIndices=[1, 2, 2**31]), "is no index from 0 to 2147483647"),
    "long token": (_edit(A, 1, tokens=["x" * 1_025], values=[1]), "it holds a token of over 1,024 characters"),
    "many examples": (_many, "one more than the 1024 activations of feature"),
    "a table too large": (_wide, "activations of up to 16384 tokens; at most 262,144 values"),
    "no file": (_pipe, "batch-0.jsonl is not a regular file"),
    "label": (_edit(E, 1, description=5), f"{E}, line 1: `description` is '5', which is no string"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_and_nothing_is_served(
    sqlite_shelf: Shelf, tmp_path: Path, case: str
) -> None:
    run, (spoil, says) = runner(sqlite_shelf, tmp_path), CASES[case]
    folder = made.write(tmp_path / "given", [0, 1, 2, 3, 4, 5], gz=False)
    spoil(folder)
    with pytest.raises(Problem) as refused:
        run(ImportSpec(path=str(folder)))
    assert says in refused.value.detail
    assert refused.value.status == 422
    for sae in _saes(sqlite_shelf):
        assert sae.run_id is None


def _saes(shelf: Shelf) -> list:
    try:
        return read.saes(shelf, made.MODEL).items
    except NotFound:
        return []


def test_a_mended_folder_is_taken_by_the_same_job(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "given", [0, 1, 2, 3, 4, 5], gz=False)
    _edit(A, 1, tokens="x")(folder)
    with pytest.raises(Problem):
        run(ImportSpec(path=str(folder)))
    made.write(tmp_path / "given", [0, 1, 2, 3, 4, 5], gz=False)
    assert run(ImportSpec(path=str(folder)))["features"] == 6
    assert read.sae(shelf, made.MODEL, made.SOURCE).status == "ready"


def test_ids_in_use_and_folders_elsewhere_are_refused(
    run: Run, shelf: Shelf, tmp_path: Path
) -> None:
    builders.fill(shelf)
    folder = made.write(tmp_path / "given", [0])
    with pytest.raises(Conflict, match="in use for an SAE that is here with its weights"):
        run(ImportSpec(path=str(folder), model="tiny", sae="0-res"))
    with pytest.raises(Conflict, match="reserved for the neurons"):
        run(ImportSpec(path=str(folder), sae="0-mlp"))
    with pytest.raises(Problem, match="outside the folders that jobs may read"):
        run(ImportSpec(path="/etc"))
    with pytest.raises(Problem, match="holds no evidence"):
        run(ImportSpec(path=str(tmp_path)))
    with pytest.raises(Conflict, match="is there already; give another path"):
        run(ExportSpec(model="tiny", sae="0-res", path=str(folder)))
    with pytest.raises(Problem, match="outside the folders that jobs may read"):
        run(ExportSpec(model="tiny", sae="0-res", path="/elsewhere"))
    with pytest.raises(NotFound, match="has no SAE"):
        run(ExportSpec(model="tiny", sae="1-x"))
