"""The Grafana dashboard, the alerts and the example for Prometheus, held against what is really exposed."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.observe.conftest import SAE, Scene, together

pytestmark = together
FOLDER = Path(__file__).parents[2] / "docs" / "grafana"
DASHBOARD = json.loads((FOLDER / "saescope.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
PROMETHEUS = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds, and that of a histogram's buckets."""
WITH_A_GPU = "saescope_live_device_bytes"
OF_CLASSES = re.compile(r"[\d.]+")
"""Of statuses, such as `5..`, of which there may be none."""


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def told(scene: Scene) -> dict[str, dict[str, set[str]]]:
    """The values of every label by name of the sample, of both processes."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for client in (scene.api.client, scene.live.client):
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found[sample.name].update({})
                for name, value in sample.labels.items():
                    found[sample.name][name].add(value)
    found[WITH_A_GPU]["kind"] = {"free"}
    return found


@pytest.fixture(scope="module")
def exposed(scene: Scene) -> dict[str, dict[str, set[str]]]:
    """After a few requests of each kind, some of which were refused."""
    model, client = scene.world.id, scene.api.client
    for body in (scene.steer(), scene.steer(model="nobody"), scene.steer(stream=True)):
        client.post("/v1/steer", json=body)
    client.post("/v1/activations", json={"model": model, "saes": [SAE], "texts": ["A text"]})
    client.get(f"/v1/models/{model}/saes/{SAE}/features/3")
    scene.live.client.post("/steer", json={})
    return told(scene)


def test_there_is_what_is_asked_for(exposed: dict[str, dict[str, set[str]]]) -> None:
    known = {"up", *exposed}
    for query in queries():
        named = set(re.findall(r"\b(?:saescope|process)_[a-z_]+\b", re.sub('"[^"]*"', "", query)))
        assert named or "up{" in query, query
        assert named <= known, query
        labels = ADDED.union(*(exposed[name] for name in named))
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert set(group.split(", ")) <= labels, query
        for name, selector in re.findall(r"(\w+)\{([^}]*)\}", query):
            for label, how, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                values = {*PROMETHEUS_JOBS} if label == "job" else exposed[name][label]
                assert values, (query, label)
                right = re.compile(value if how == "=~" else re.escape(value))
                rare = OF_CLASSES.fullmatch(value)
                assert rare or any(map(right.fullmatch, values)), (query, label, values)


PROMETHEUS_JOBS = [one["job_name"] for one in PROMETHEUS["scrape_configs"]]


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["schemaVersion"] >= 39
    [variable] = DASHBOARD["templating"]["list"]
    assert variable["type"] == "datasource" and variable["query"] == "prometheus"
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        for part in (panel, *panel.get("targets", ())) if panel["type"] != "row" else ():
            assert part["datasource"]["uid"] == f"${{{variable['name']}}}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_prometheus_gets_what_the_example_asks_for(scene: Scene) -> None:
    """The live worker by the file of the shared token, and nobody without it."""
    live = next(one for one in PROMETHEUS["scrape_configs"] if one["job_name"] == "saescope-live")
    assert Path(live["authorization"]["credentials_file"]).name == "live.token"
    token = scene.live.settings.token_file.read_text()
    headers = {"Authorization": f"Bearer {token.strip()}"}
    assert scene.live.client.get("/metrics", headers=headers).status_code == 200
    wrong = scene.live.client.get("/metrics", headers={"Authorization": "Bearer guess"})
    assert wrong.status_code == 401
    assert FOLDER.joinpath(PROMETHEUS["rule_files"][0]).exists()
