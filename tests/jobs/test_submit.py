"""`saescope train` as it is typed: what is submitted, and what is said of a mistake."""

import re
import sys
from pathlib import Path

import pytest

from app.cli.commands import run
from app.cli.watch import open_jobs
from app.contract.jobs import AlsoTrain, CorpusFile, TrainSpec
from app.settings import Settings

HOOK = "blocks.2.hook_resid_post"


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAESCOPE_DATA_DIR", str(tmp_path))


def train(monkeypatch: pytest.MonkeyPatch, *options: str) -> object:
    """The exit code."""
    command = ["saescope", "train", "m", "2-mine", "--hook-name", HOOK, "--detach", *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        run()
    return ended.value.code


def test_several_saes_and_text_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, other = "2-wide,d_sae=4096,lr=0.002", "3-relu,architecture=standard,hook-name=blocks.3.x"
    options = ["--also", wide, "--also", other, "--k", "8", "--corpus", "hub:owner/name"]
    assert train(monkeypatch, *options) == 0
    with open_jobs(Settings()) as jobs:
        view = jobs.get(capsys.readouterr().out.strip())
    assert TrainSpec.model_validate(view.spec) == TrainSpec(
        model="m",
        sae="2-mine",
        hook_name=HOOK,
        k=8,
        corpus=CorpusFile(path="hub:owner/name"),
        also=[
            AlsoTrain(sae="2-wide", d_sae=4096, lr=0.002),
            AlsoTrain(sae="3-relu", architecture="standard", hook_name="blocks.3.x"),
        ],
    )


@pytest.mark.parametrize(
    ("also", "sentence"),
    [
        ("2-wide,4096", r"write SAE,NAME=VALUE, with NAME one of hook_name, architecture, d_sae"),
        ("2-wide,d_sae=wide", r"also\.0\.d_sae cannot be 'wide': Input should be a valid integer"),
        ("2-wide,width=4", r"also\.0\.width cannot be '4': Extra inputs are not permitted"),
        ("2 wide", r"also\.0\.sae cannot be '2 wide': String should match"),
    ],
)
def test_a_mistake_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], also: str, sentence: str
) -> None:
    assert train(monkeypatch, "--also", also) in (1, 2)
    assert re.search(sentence, " ".join(capsys.readouterr().err.split()))
