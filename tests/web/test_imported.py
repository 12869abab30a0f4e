"""Pages of evidence that was imported, with as little in it as a file may have."""

import json
from pathlib import Path

import pytest

from app.contract.jobs import ImportSpec
from app.settings import Settings
from app.store.engine import Shelf
from tests.api.conftest import NOBODY, client_of
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run, run, shared_data

__all__ = ["run", "shared_data"]
NEEDED = ("modelId", "layer", "index")
SAE = f"/models/{made.MODEL}/saes/{made.SOURCE}"


@pytest.mark.parametrize("bare", [False, True])
def test_every_page_is_there(run: Run, shelf: Shelf, tmp_path: Path, bare: bool) -> None:
    folder = made.write(tmp_path / "given", [0, 1, 2, 6], gz=False)
    if bare:
        path = folder / "features/batch-0.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        short = [{name: row[name] for name in NEEDED} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in short))
    run(ImportSpec(path=str(folder)))
    url = shelf.reader.url.render_as_string(hide_password=False)
    settings = Settings(
        data_dir=tmp_path, database_url=None if shelf.is_sqlite else url, live_url=NOBODY
    )
    with client_of(settings) as client:
        for path in ("/", f"/models/{made.MODEL}", SAE, f"/models/{made.MODEL}/find?q=thing",
                     *(f"{SAE}/features/{index}" for index in (0, 1, 2, 6)), "/text"):  # fmt: skip
            answer = client.get(path, headers={"accept": "text/html"})
            assert answer.status_code == 200, (path, answer.text)
            assert "Try a text" not in answer.text
