"""The last part of `precompute`: neurons split into the features of SAEs on their hook point.

A pair of neurons and SAE is split where the job names at least one of the two, and the other one is
on the shelf with evidence from the same text. A split is written before its runs are served, so that
readers see evidence and split change together, but for jobs that end at the same time, of which the
last finds what the other has served and splits then. Why a pair is not split is told, and fails no job.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from app.contract.ids import is_neuron_source
from app.contract.jobs import PrecomputeSpec
from app.errors import Problem
from app.store import splits
from app.store.splits import Source
from worker.jobs.away import waiting_out
from worker.jobs.corpus import StoredCorpus
from worker.jobs.job import Job
from worker.models import LanguageModel
from worker.saes import Dictionary, load_sae
from worker.split.run import blocks, split_block

log = logging.getLogger("saescope.jobs")

Pair = tuple[Source, Source]
"""A layer's neurons, and an SAE on their hook point."""


class Done(NamedTuple):
    """Pairs, as `NEURONS by SAE`."""

    split: list[str]
    not_split: dict[str, str]
    """And why."""


def split_neurons(
    job: Job[PrecomputeSpec],
    model: LanguageModel,
    opened: Sequence[Dictionary],
    corpus: StoredCorpus,
    new: Mapping[str, Source],
) -> Done:
    """Split what is not split yet, and say what is.

    `opened` are the job's dictionaries, `new` those of them whose runs are not served yet.
    """
    hooks = sorted({one.hook_name for one in opened if one.hook_name.endswith(".mlp.hook_post")})
    done = Done([], {})
    for neurons, sae in (pair for hook in hooks for pair in _pairs(job, hook, opened, new)):
        name = f"{neurons.id} by {sae.id}"
        if {neurons.corpus, sae.corpus} != {corpus.id}:
            done.not_split[name] = "their evidence is not from the text of this job"
            continue
        try:
            _split(job, model, opened, corpus, neurons, sae)
        except Problem as problem:  # the other one is broken, or was deleted just now
            log.warning("%s is not split: %s", name, problem.detail)
            done.not_split[name] = problem.detail
        else:
            done.split.append(name)
    return done


def _pairs(
    job: Job[PrecomputeSpec],
    hook_name: str,
    opened: Sequence[Dictionary],
    new: Mapping[str, Source],
) -> list[Pair]:
    """Neurons and SAEs at a hook point, of which the job names one or both."""
    served = splits.served_at(job.bench.shelf, job.spec.model, hook_name)
    there = {one.id: one for one in served}
    there |= {one.id: new[one.id] for one in opened if one.hook_name == hook_name and one.id in new}
    neurons = [one for one in there.values() if is_neuron_source(one.id)]
    saes = [one for one in there.values() if splits.can_split(one.architecture)]
    named = {one.id for one in opened}
    return [pair for pair in product(neurons, saes) if named & {one.id for one in pair}]


def _split(
    job: Job[PrecomputeSpec],
    model: LanguageModel,
    opened: Sequence[Dictionary],
    corpus: StoredCorpus,
    neurons: Source,
    sae: Source,
) -> None:
    """Do the blocks that are not there yet."""
    shelf = job.bench.shelf
    split = waiting_out(lambda: splits.begin_split(shelf, neurons.run_id, sae.run_id))
    if splits.is_complete(shelf, split):
        return
    dictionary = next((one for one in opened if one.id == sae.id), None) or load_sae(
        sae.id, Path(sae.path), device=job.bench.device, model=model
    )

    def do(block: tuple[int, int]) -> None:
        evidence = splits.stored_evidence(shelf, neurons.run_id, *block)
        made = split_block(model, dictionary, corpus.sequences, evidence, block, job.report)
        waiting_out(lambda: splits.put_neurons(shelf, split, made))

    for first, stop in blocks(dictionary.d_in, sae.statistics["l0"]):
        if splits.n_stored(shelf, split, first, stop) < stop - first:
            do((first, stop))
    waiting_out(lambda: splits.finish_split(shelf, split))
