"""schemathesis asks every operation of the document, well and badly, and holds the answers against it:
no 5xx, only statuses, types, headers and bodies that are documented, good data taken, bad data refused.

How it asks is in schemathesis.toml and hooks.py. The same seed asks the same, but for ids that the
service gives out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.openapi.conftest import together
from tests.openapi.node import HERE
from tests.openapi.place import Place

pytestmark = [together, pytest.mark.timeout(1_500)]
ROOT = HERE.parents[1]
RUN_S = 1_200


def ask(place: Place, folder: Path, *options: str) -> None:
    """Run schemathesis; fails with what it found."""
    told = {
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "OPENAPI_DOOMED": json.dumps(place.doomed),
        "OPENAPI_DONE": place.done,
    }
    program = [str(Path(sys.executable).with_name("schemathesis")), "--config-file"]
    what = [str(HERE / "schemathesis.toml"), "run", f"{place.server.url}/openapi.json"]
    ran = subprocess.run(
        [*program, *what, "--no-color", *options],
        check=False,
        env=os.environ | told,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def unreached(place: Place) -> set[str]:
    """Operations that have never answered with 2xx."""
    client = place.server.client
    document: dict[str, Any] = client.get("/openapi.json").json()
    operations = {
        f"{method.upper()} {path}" for path, of in document["paths"].items() for method in of
    }
    reached = {
        f"{sample.labels['method']} {sample.labels['route']}"
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "saescope_requests_total" and sample.labels["status"].startswith("2")
    }
    return operations - reached


def test_it_finds_nothing(place: Place, tmp_path: Path) -> None:
    ask(place, tmp_path, "--phases=examples,coverage,fuzzing", "--max-examples=5")
    assert not unreached(place), "needs an example in the document that works in place.py"


@pytest.mark.slow
def test_it_finds_nothing_in_a_while(place: Place, tmp_path: Path) -> None:
    ask(place, tmp_path, "--phases=fuzzing,stateful", "--max-examples=100", "--seed=7")
