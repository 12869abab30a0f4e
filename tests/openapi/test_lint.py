"""The document under Redocly's linter, with the rules of redocly.yaml."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.openapi.conftest import together
from tests.openapi.node import HERE, Node, Ran

pytestmark = together


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path)).openapi()


def lint(node: Node, folder: Path, document: dict[str, Any]) -> Ran:
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    return node.tool(
        "redocly",
        "lint",
        file,
        "--config",
        HERE / "redocly.yaml",
        "--format",
        "stylish",
        cwd=folder,
    )


def test_the_linter_finds_nothing(node: Node, tmp_path: Path, document: dict[str, Any]) -> None:
    ran = lint(node, tmp_path, document)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "is valid" in ran.stderr


def test_the_linter_finds_what_is_wrong(
    node: Node, tmp_path: Path, document: dict[str, Any]
) -> None:
    steer = document["paths"]["/v1/steer"]["post"]
    del steer["summary"]
    examples = steer["requestBody"]["content"]["application/json"]["examples"]
    examples["one feature"]["value"]["top_p"] = 7
    ran = lint(node, tmp_path, document)
    assert ran.returncode == 1
    assert "operation-summary" in ran.stdout
    assert "no-invalid-media-type-examples" in ran.stdout
