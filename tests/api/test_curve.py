"""The picture of a training run."""

from xml.etree import ElementTree

from app.api.curve import HEADING, HEIGHT, LEFT, RIGHT, TOP, WIDTH, _curves, svg
from app.contract.jobs import JobView

SVG = "{http://www.w3.org/2000/svg}"


def test_a_job_that_trained_one_has_one_curve() -> None:
    """As jobs were stored before several could be trained."""
    view = JobView.model_validate({
        "id": "j", "kind": "train", "state": "done", "spec": {}, "progress": 1,
        "result": {"sae": "2-a", "curve": {"tokens": [], "metrics": {}}},
        "created_at": "2026-11-25T00:00:00Z", "updated_at": "2026-11-25T00:00:00Z",
    })  # fmt: skip
    assert list(_curves(view)) == ["2-a"]


def test_each_metric_has_a_line_from_its_lowest_to_its_highest_value() -> None:
    metrics = {"l0": [9.0, 3.0, 5.0], "loss": [2.0, 1.0, 0.0], "of the future": [1.0, 2.0, 3.0]}
    picture = ElementTree.fromstring(svg({"1-a": {"tokens": [10, 20, 40], "metrics": metrics}}))
    lines = [line.attrib["points"].split() for line in picture.iter(f"{SVG}polyline")]
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for point in lines[0]]
    xs, ys = zip(*points, strict=True)
    assert xs == (
        LEFT + (WIDTH - LEFT - RIGHT) / 4,
        LEFT + (WIDTH - LEFT - RIGHT) / 2,
        WIDTH - RIGHT,
    )
    assert ys[0] == TOP and ys[1] > ys[2] > ys[0]
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert "5" in texts and "40 tokens" in texts
    assert picture.attrib["height"] == str(HEIGHT)


def test_a_metric_that_never_changes_is_a_line_in_the_middle() -> None:
    picture = ElementTree.fromstring(
        svg({"1-a": {"tokens": [1, 2], "metrics": {"l0": [3.0, 3.0]}}})
    )
    (line,) = picture.iter(f"{SVG}polyline")
    assert len({point.split(",")[1] for point in line.attrib["points"].split()}) == 1


def test_several_saes_stand_below_each_other_under_their_ids() -> None:
    curve = {"tokens": [1, 2], "metrics": {"l0": [3.0, 4.0], "loss": [2.0, 1.0]}}
    picture = ElementTree.fromstring(svg({"1-a": curve, "1-b<": curve}))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert [text for text in texts if text in ("1-a", "1-b<")] == ["1-a", "1-b<"]
    assert len(list(picture.iter(f"{SVG}polyline"))) == 4
    assert picture.attrib["height"] == str(2 * (HEADING + HEIGHT))
    moved = [group.attrib["transform"] for group in picture.iter(f"{SVG}g")]
    assert f"translate(0 {HEIGHT + 2 * HEADING})" in moved
