"""Neurons and their splits for tests, on the model of `tests.store.builders`."""

from dataclasses import replace

from app.store import splits, write
from app.store.engine import Shelf
from app.store.split_records import Explained, Group, NeuronSplit, Part
from tests.store import builders

HOOK = "blocks.0.mlp.hook_post"
NEURONS = 64


def split_of(neuron: int, seed: int = 0) -> NeuronSplit:
    """A neuron's split; several neurons have the same polysemanticity."""
    part = Part(neuron % 60, 0.5 + seed, 0.25)
    return NeuronSplit(
        neuron=neuron,
        polysemanticity=1.0 + (neuron * 7) % 20 / 10,
        features=[part, Part(61, -0.1, -0.5)],
        others=0.2,
        n_others=3,
        bias=0.1,
        rest=0.3 - seed,
        unexplained_variance=None if neuron == 3 else 0.01 * neuron,
        groups=[
            Group(part, [Explained(0, 1.5), Explained(4, 1.25)]),
            Group(None, [Explained(7, 0)]),
        ],
    )


def add_sources(shelf: Shelf) -> builders.Tokens:
    """A model with neurons `0-mlp` and the SAEs `0-a`, `0-b` on their hook point, none with evidence."""
    tokens = builders.corpus()
    points = {HOOK: 32, "blocks.0.hook_resid_post": 8}
    write.put_model(shelf, builders.model_record(hook_points=points), builders.vocabulary())
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    for fingerprint, (name, kind) in enumerate(
        [("0-mlp", "neurons"), ("0-a", "topk"), ("0-b", "standard"), ("0-tc", "transcoder")]
    ):
        record = builders.sae_record(name, fingerprint=str(fingerprint) * 64)
        write.put_sae(shelf, replace(record, hook_name=HOOK, architecture=kind))
    write.put_sae(shelf, builders.sae_record("0-res"))
    return tokens


def begin(shelf: Shelf, tokens: builders.Tokens, sae: str, run: str) -> str:
    """All evidence of a run, which is not served yet."""
    write.begin_run(shelf, "tiny", sae, tokens.record.id, {}, run)
    write.put_features(shelf, run, builders.batch(tokens, 0, NEURONS, seed=len(run)))
    return run


def put_split(shelf: Shelf, neurons_run: str, sae_run: str, seed: int = 0) -> int:
    """A complete split of two runs."""
    number = splits.begin_split(shelf, neurons_run, sae_run)
    for first in (0, 40):
        stop = min(first + 40, NEURONS)
        splits.put_neurons(shelf, number, [split_of(n, seed) for n in range(first, stop)])
    splits.finish_split(shelf, number)
    return number


def fill(shelf: Shelf) -> builders.Tokens:
    """Neurons and both SAEs with evidence, split by `0-a`."""
    tokens = add_sources(shelf)
    for sae in ("0-mlp", "0-a", "0-b"):
        begin(shelf, tokens, sae, f"{sae}.1")
    put_split(shelf, "0-mlp.1", "0-a.1")
    write.finish_runs(shelf, {f"{sae}.1": {"l0": 2.0} for sae in ("0-mlp", "0-a", "0-b")})
    return tokens
