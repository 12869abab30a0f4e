"""What other processes open of a job: on nodes of a cluster that see the data folder."""

from pathlib import Path
from typing import Any

import torch

from app.contract.ids import is_neuron_source
from app.store import read
from worker.dictionary import Dictionary
from worker.evidence_only import folder_of
from worker.jobs.corpus import StoredCorpus
from worker.jobs.job import Job
from worker.materials import Materials
from worker.models import LanguageModel


def materials(
    job: Job[Any], model: LanguageModel, dictionaries: list[Dictionary], corpus: StoredCorpus
) -> Materials:
    """Where a job's model, dictionaries and tokens are kept."""
    return Materials(
        model.id,
        model.path,
        model.dtype,
        {one.id: _kept(job, one) for one in dictionaries},
        corpus.folder,
        torch.get_num_threads(),
    )


def _kept(job: Job[Any], dictionary: Dictionary) -> Path | int:
    if is_neuron_source(dictionary.id):
        return dictionary.layer
    return folder_of(read.sae(job.bench.shelf, job.spec.model, dictionary.id))
