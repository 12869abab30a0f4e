"""`verify`: evidence agrees with its model, and where it does not, the place is named."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select, update

from app.contract.jobs import CorpusBundled, JobSpec, LoadSpec, PrecomputeSpec, VerifySpec
from app.errors import Conflict, NotFound, Problem
from app.store import codec, read, served
from app.store.tables import features, packed_id
from tests.jobs.place import Place
from tests.worker.tiny import save_model, save_sae
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.progress import Progress, silent

pytestmark = pytest.mark.xdist_group("verify")  # the evidence is computed once
SAES = ["1-topk", "1-jump", "1-mlp"]
ALL = 100_000
Blob = Callable[[bytearray, codec.Evidence], None]
"""Changes the packed evidence of a feature, which it is told unpacked, too."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def computed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A tiny model's evidence for two SAEs and the neurons of a layer; `1-bare` has none."""
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else None
    place = Place(tmp_path_factory.mktemp("computed"), url)
    go(place, LoadSpec(model="m", path=str(save_model(place.folder / "model"))))
    for seed, (sae, kind) in enumerate(
        {"1-topk": "topk", "1-jump": "jumprelu", "1-bare": "standard"}.items()
    ):
        folder = save_sae(place.folder / sae, kind, d_sae=40, seed=seed)
        go(place, LoadSpec(model="m", sae=sae, path=str(folder)))
    go(place, PrecomputeSpec(model="m", saes=SAES, corpus=CorpusBundled(documents=12)))
    yield place
    place.close()


def go(place: Place, spec: JobSpec, dtype: str = "float32", report: Progress = silent) -> Any:
    """Check a job and do its work here; its result."""
    settings = place.settings.model_copy(update={"dtype": dtype})
    job = Job(
        f"{spec.kind}-job", spec, Bench(settings, place.shelf, torch.device("cpu"), 1), report
    )
    check, work = KINDS[spec.kind]
    check(job)
    return work(job)


def verify(place: Place, sae: str, **options: Any) -> dict[str, Any]:
    return go(place, VerifySpec(model="m", sae=sae, **options))


@pytest.fixture
def tamper(computed: Place) -> Iterator[Callable[[str, Blob], int]]:
    """Changes what is stored of a feature of an SAE with many values, and puts it back at the end;
    the feature's index."""
    undo: list[tuple[int, bytes]] = []

    def change(sae: str, how: Blob) -> int:
        run = served.run(computed.shelf, "m", sae)
        index = int(served.active_features(computed.shelf, run)[3])
        id, unpacked = packed_id(run.number, index), served.evidence(computed.shelf, run, index)[1]
        with computed.shelf.read() as connection:
            query = select(features.c.evidence).where(features.c.id == id)
            before = connection.execute(query).scalar_one()
        undo.append((id, before))
        after = bytearray(before)
        how(after, unpacked)
        _put(computed, id, bytes(after))
        return index

    yield change
    for id, before in undo:
        _put(computed, id, before)


def _put(place: Place, id: int, blob: bytes) -> None:
    with place.shelf.write() as connection:
        connection.execute(update(features).where(features.c.id == id).values(evidence=blob))


def first_value(blob: bytearray) -> int:
    """Where the active values begin; their positions end the blob."""
    n_values = codec.HEADER.unpack_from(blob)[-1]
    return len(blob) - 5 * n_values


def column(blob: bytearray, evidence: codec.Evidence, name: str) -> int:
    """Where a column of the examples begins."""
    before = {"sequence": 0, "offset": 4, "length": 8, "peak": 10, "active": 12, "band": 14}
    return first_value(blob) - (15 - before[name]) * len(evidence.band)


@pytest.mark.parametrize("sae", SAES)
def test_evidence_agrees_with_its_model(computed: Place, sae: str) -> None:
    heard = []
    spec = VerifySpec(model="m", sae=sae)
    told = go(computed, spec, report=lambda *now, **_: heard.append(now[:3]))
    record = read.sae(computed.shelf, "m", sae)
    assert (told["model"], told["sae"], told["run"]) == ("m", sae, record.run_id)
    assert told["corpus"] == record.provenance["corpus"]
    assert (told["agrees"], told["tolerance"], told["dtype"]) == (True, 1e-5, "float32")
    assert (told["examples"], told["at_edge"], told["note"]) == (200, 0, None)
    assert 200 * 20 < told["values"] <= 200 * 32
    assert 0 <= told["largest_relative"] < 1e-5
    assert told["worst"]["stored"] == pytest.approx(told["worst"]["recomputed"], rel=1e-4)
    assert heard[-1] == ("verify", 200, 200)


def test_all_examples_can_be_verified(computed: Place) -> None:
    run = served.run(computed.shelf, "m", "1-topk")
    stored = [len(served.evidence(computed.shelf, run, index)[1].band)
              for index in served.active_features(computed.shelf, run).tolist()]  # fmt: skip
    told = verify(computed, "1-topk", examples=ALL)
    assert told["examples"] == sum(stored)
    assert told["agrees"]


def test_a_maximum_that_is_not_its_strongest_example_is_found(computed: Place) -> None:
    run = served.run(computed.shelf, "m", "1-topk")
    index = int(served.active_features(computed.shelf, run)[3])
    maximum, _ = served.evidence(computed.shelf, run, index)
    of = features.c.id == packed_id(run.number, index)

    def put(value: float) -> None:
        with computed.shelf.write() as connection:
            connection.execute(update(features).where(of).values(max_activation=value))

    try:
        for wrong in (1.001 * maximum, 0.0):
            put(wrong)
            told = verify(computed, "1-topk", examples=ALL)
            assert (told["agrees"], told["worst"]["feature"]) == (False, index)
            assert told["worst"]["stored"] == pytest.approx(wrong, rel=1e-6)
            assert told["worst"]["recomputed"] == pytest.approx(maximum, rel=1e-6)
    finally:
        put(maximum)


def test_the_seed_decides_what_is_drawn(computed: Place) -> None:
    one = verify(computed, "1-topk", examples=5, seed=1)
    assert verify(computed, "1-topk", examples=5, seed=1) == one
    assert verify(computed, "1-topk", examples=5, seed=2)["worst"] != one["worst"]


@pytest.mark.parametrize("sae", SAES)
def test_a_changed_value_is_found_and_named(
    computed: Place, tamper: Callable[[str, Blob], int], sae: str
) -> None:
    changed = {}

    def how(blob: bytearray, evidence: codec.Evidence) -> None:
        begin = first_value(blob)
        (value,) = struct.unpack_from("<f", blob, begin)
        struct.pack_into("<f", blob, begin, 1.001 * value)
        example = int(np.flatnonzero((evidence.values > 0).any(axis=1))[0])
        within = int(np.flatnonzero(evidence.values[example])[0])
        changed["sequence"] = int(evidence.sequence[example])
        changed["position"] = int(evidence.offset[example]) + within
        changed["stored"] = float(np.float32(1.001 * value))
        changed["recomputed"] = pytest.approx(value, rel=1e-4)

    changed["feature"] = tamper(sae, how)
    told = verify(computed, sae, examples=ALL)
    assert told["agrees"] is False
    assert told["worst"] == changed
    difference = abs(told["worst"]["stored"] - told["worst"]["recomputed"])
    assert told["largest_difference"] == pytest.approx(difference)


def test_a_value_that_moved_is_found_in_the_zeros(
    computed: Place, tamper: Callable[[str, Blob], int]
) -> None:
    moved = {}

    def how(blob: bytearray, evidence: codec.Evidence) -> None:
        example = 0
        active = np.flatnonzero(evidence.values[example])
        n_values = codec.HEADER.unpack_from(blob)[-1]
        at = int(evidence.peak[example] == active[0])
        free = int(np.flatnonzero(evidence.values[example] == 0)[-1])
        blob[len(blob) - n_values + at] = free
        offset = int(evidence.offset[example])
        moved["between"] = {offset + int(active[at]), offset + free}

    index = tamper("1-jump", how)
    told = verify(computed, "1-jump", examples=ALL)
    assert (told["agrees"], told["worst"]["feature"]) == (False, index)
    assert told["worst"]["position"] in moved["between"]
    assert 0 in (told["worst"]["stored"], told["worst"]["recomputed"])


def test_a_peak_that_is_none_is_found(computed: Place, tamper: Callable[[str, Blob], int]) -> None:
    def how(blob: bytearray, evidence: codec.Evidence) -> None:
        least = int(np.argmin(evidence.values[0, : evidence.length[0]]))
        struct.pack_into("<H", blob, column(blob, evidence, "peak"), least)

    index = tamper("1-topk", how)
    told = verify(computed, "1-topk", examples=ALL)
    assert (told["agrees"], told["worst"]["feature"]) == (False, index)
    assert told["worst"]["recomputed"] > told["worst"]["stored"]


def test_what_is_no_number_does_not_agree(
    computed: Place, tamper: Callable[[str, Blob], int]
) -> None:
    index = tamper(
        "1-topk", lambda blob, _: struct.pack_into("<f", blob, first_value(blob), np.nan)
    )
    told = verify(computed, "1-topk", examples=ALL)
    assert (told["agrees"], told["worst"]["feature"]) == (False, index)
    assert told["largest_difference"] is told["worst"]["stored"] is None


@pytest.mark.parametrize(("name", "format", "value", "words"), [
    ("sequence", "<i", 10**6, "outside of its corpus"),
    ("sequence", "<i", -1, "outside of its corpus"),
    ("offset", "<i", 60, "outside of its corpus"),
    ("offset", "<i", -3, "outside of its corpus"),
    ("peak", "<H", 40, "outside of its corpus"),
    ("active", "<H", 60_000, "cannot be read"),
])  # fmt: skip
def test_windows_outside_of_the_corpus_are_refused(
    computed: Place,
    tamper: Callable[[str, Blob], int],
    name: str,
    format: str,
    value: int,
    words: str,
) -> None:
    def how(blob: bytearray, evidence: codec.Evidence) -> None:
        struct.pack_into(format, blob, column(blob, evidence, name), value)

    tamper("1-topk", how)
    with pytest.raises(Conflict, match=words):
        verify(computed, "1-topk", examples=ALL)


@pytest.mark.parametrize(("spec", "kind", "words"), [
    (VerifySpec(model="nobody", sae="1-topk"), NotFound, "no model 'nobody'"),
    (VerifySpec(model="m", sae="1-nobody"), NotFound, "no SAE '1-nobody'"),
    (VerifySpec(model="m", sae="1-bare"), Conflict, "run `saescope precompute m 1-bare` first"),
    (VerifySpec(model="m", sae="2-mlp"), Conflict, "run `saescope precompute m 2-mlp` first"),
])  # fmt: skip
def test_only_evidence_can_be_verified(
    computed: Place, spec: VerifySpec, kind: type[Problem], words: str
) -> None:
    with pytest.raises(kind, match=words):
        check(computed, spec)


def check(place: Place, spec: JobSpec) -> None:
    """Only the first step."""
    bench = Bench(place.settings, place.shelf, torch.device("cpu"), 1)
    KINDS[spec.kind][0](Job("job", spec, bench, silent))


@pytest.mark.parametrize(("what", "sae"), [("SAE", "1-topk"), ("model", "1-topk"),
                                           ("model", "1-mlp")])  # fmt: skip
def test_other_files_are_not_compared(computed: Place, what: str, sae: str) -> None:
    record = read.model(computed.shelf, "m") if what == "model" else None
    folder = Path((record or read.sae(computed.shelf, "m", sae)).path)
    weights = next(folder.glob("*.safetensors"))
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + bytes(4))
    try:
        with pytest.raises(Conflict, match=rf"The {what} '.*' in .* files have changed") as caught:
            check(computed, VerifySpec(model="m", sae=sae))
    finally:
        weights.write_bytes(before)
    assert caught.value.fields["stored_fingerprint"] != caught.value.fields["given_fingerprint"]


def test_an_sae_that_is_dead_has_nothing_to_verify(computed: Place) -> None:
    folder = save_sae(computed.folder / "dead", "jumprelu", d_sae=8)
    _silence(folder)
    go(computed, LoadSpec(model="m", sae="1-dead", path=str(folder)))
    go(computed, PrecomputeSpec(model="m", saes=["1-dead"], corpus=CorpusBundled(documents=5)))
    with pytest.raises(Conflict, match="No feature of '1-dead' was active"):
        verify(computed, "1-dead")


def _silence(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "sae_weights.safetensors"
    weights = load_file(file)
    weights["threshold"].fill_(1e6)
    save_file(weights, file)


def test_nothing_is_claimed_of_bfloat16(computed: Place) -> None:
    folder = save_sae(computed.folder / "half", d_sae=40, seed=7)
    go(computed, LoadSpec(model="m", sae="1-half", path=str(folder)))
    job = PrecomputeSpec(model="m", saes=["1-half"], corpus=CorpusBundled(documents=5))
    go(computed, job, dtype="bfloat16")
    told = verify(computed, "1-half")
    assert told["dtype"] == "bfloat16"
    assert told["tolerance"] is told["agrees"] is None
    assert "no agreement can be claimed" in told["note"]
    assert 0 <= told["largest_relative"] < 0.1


def test_the_number_format_is_the_runs_own(computed: Place) -> None:
    spec = VerifySpec(model="m", sae="1-topk")
    assert go(computed, spec, dtype="bfloat16") == verify(computed, "1-topk")


def test_the_command_tells_whether_it_agrees(
    computed: Place, tamper: Callable[[str, Blob], int]
) -> None:
    computed.start_worker()
    try:
        agreed = command(computed)
        assert agreed.returncode == 0, agreed.stderr
        assert "The evidence of 1-topk (m) agrees with its model" in agreed.stdout
        index = tamper(
            "1-topk", lambda blob, _: struct.pack_into("<f", blob, first_value(blob), 1e3)
        )
        refused = command(computed)
    finally:
        computed.kill_worker()
    assert refused.returncode == 1
    assert "does not agree" in refused.stdout
    assert f"the worst at feature {index}, sequence" in refused.stdout
    assert "stored 1000, recomputed" in refused.stdout


def command(place: Place) -> subprocess.CompletedProcess[str]:
    """`saescope verify`, of all examples."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", "verify", "m", "1-topk", "--examples", str(ALL)],
        env=place.env | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
