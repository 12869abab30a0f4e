"""A TypeScript client whose types openapi-typescript makes from the document: it compiles under strict,
and what it sees is what the service says."""

import json
import re
import shutil
from pathlib import Path

import pytest

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.openapi.conftest import together
from tests.openapi.node import HERE, Node
from tests.openapi.place import Place

pytestmark = together
OPTIONS = ("-o", "schema.ts", "--default-non-nullable", "false")
MISTAKES = [
    # what is right, what is wrong, what the compiler says
    ("found.label,", "found.lable,", "'lable' does not exist"),
    ("label: found.label", "label: found.label.toFixed(1)", "'toFixed' does not exist"),
    ("bands[0]?.examples", "bands[0].examples", "possibly 'undefined'"),
    ("calibration?.strength", "calibration.strength", "possibly 'null'"),
    ('kind: "verify"', 'kind: "very"', "is not assignable"),
    ('sort: "density",\n', 'sort: "name",\n', "is not assignable"),
    ("top_p: 7", 'top_p: "7"', "is not assignable"),
    ("/v1/activations", "/v1/activation", "is not assignable"),
]
FEATURES = f"/v1/models/{BUNDLED_MODEL}/saes/{BUNDLED_SAES[0]}/features"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, node: Node, place: Place) -> Path:
    """A folder with the program, the types that were made for it, and what it imports."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("package.json", "tsconfig.json", "client.ts"):
        shutil.copy(HERE / name, folder)
    (folder / "node_modules").symlink_to(node.modules)
    url = f"{place.server.url}/openapi.json"
    ran = node.tool("openapi-typescript", url, *OPTIONS, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder


def test_the_docs_say_how_to_make_it() -> None:
    text = (HERE.parents[1] / "docs" / "api.md").read_text()
    assert (
        f"npx openapi-typescript@7 http://127.0.0.1:8000/openapi.json {' '.join(OPTIONS)}\n" in text
    )


def test_it_compiles(node: Node, project: Path) -> None:
    ran = node.tool("tsc", "--project", ".", cwd=project)
    assert ran.returncode == 0, ran.stdout


def test_a_mistake_does_not(node: Node, project: Path) -> None:
    """Each alone, in a copy of the program."""
    text = (project / "client.ts").read_text()
    for place, (right, wrong, _) in enumerate(MISTAKES):
        assert text.count(right) == 1, right
        (project / f"wrong{place}.ts").write_text(text.replace(right, wrong))
    files = [f"wrong{place}.ts" for place in range(len(MISTAKES))]
    config = {"extends": "./tsconfig.json", "files": files}
    (project / "wrong.json").write_text(json.dumps(config))
    ran = node.tool("tsc", "--project", "wrong.json", cwd=project)
    assert ran.returncode != 0
    for file, (_, wrong, told) in zip(files, MISTAKES, strict=True):
        lines = [line for line in ran.stdout.splitlines() if line.startswith(f"{file}(")]
        assert any(told in line for line in lines), f"{wrong}: {lines}"


def test_it_sees_what_the_service_says(node: Node, project: Path, place: Place) -> None:
    ran = node.run("client.ts", place.server.url, cwd=project)
    assert ran.returncode == 0, ran.stderr
    seen, client = json.loads(ran.stdout), place.server.client
    feature = client.get(f"{FEATURES}/12").json()
    assert seen["feature"]["label"] == feature["label"]
    assert seen["feature"]["text"] == feature["bands"][0]["examples"][0]["text"]
    assert seen["feature"]["promotes"] == [one["token"] for one in feature["logits"]["top"]]
    page = client.get(FEATURES, params={"sort": "density", "order": "desc", "limit": 6}).json()
    assert seen["features"] == [row["index"] for row in page["items"]]
    (read,) = seen["activations"]
    assert "".join(read["tokens"][1:]) == "The old sailor was happy."
    assert len(read["strongest"]) == len(read["tokens"])
    assert seen["steered"]["tokens"] == 16
    assert re.fullmatch("(delta )+done", seen["streamed"])
    assert seen["job"] == {"was": "queued", "is": "cancelled", "deleted": 204}
    assert seen["refused"] == {"status": 422, "where": "body.top_p", "allowed": "at most 1.0"}
    assert seen["openai"] == "model_not_found"
