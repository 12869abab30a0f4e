"""`import`: evidence that Neuronpedia or SAEDashboard wrote, onto the shelf.

Rows are first brought together by feature, batch by batch, in a file of the job's own
(`worker.neuronpedia.spool`); then features go onto the shelf in the order of their numbers, range by
range, and are served at once when all are there. Both go on where a job was stopped.

Model and SAE get registrations without files: what is here can be looked up, and nothing else.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from app.contract.ids import ID_PATTERN
from app.contract.jobs import ImportSpec
from app.errors import Conflict, Invalid
from app.rows.page import Names
from app.store import imports
from app.store.records import IMPORTED, ModelRecord, SaeRecord, Vocabulary
from app.store.write import committed_ranges, delete_sae, finish_runs, put_model, put_sae
from worker.jobs.away import waiting_out
from worker.jobs.job import Job
from worker.jobs.paths import evidence_folder
from worker.jobs.registered import find_model, find_sae, refuse_reserved
from worker.neuronpedia.active import active
from worker.neuronpedia.evidence import feature
from worker.neuronpedia.lacking import lacking
from worker.neuronpedia.parse import parse
from worker.neuronpedia.read import read_batch
from worker.neuronpedia.source import Source, hook_name_of, open_source
from worker.neuronpedia.spool import Spool
from worker.neuronpedia.strings import Strings
from worker.neuronpedia.values import at

RANGE_FEATURES = 128
"""Features committed at once: a few MB, of pages as Neuronpedia has them."""
NOT_STEERABLE = "Only its evidence was imported; its weights are not here."


@dataclass(frozen=True)
class _Import:
    """An import at work."""

    job: Job[ImportSpec]
    source: Source
    spool: Spool
    names: Names
    """On the shelf."""
    d_sae: int


def check_import(job: Job[ImportSpec]) -> None:
    """All that can be known without reading the batches."""
    source = open_source(evidence_folder(job.bench.settings, job.spec.path))
    names = _names(job, source)
    refuse_reserved(names.sae)
    _refuse_loaded(job, names)


def import_evidence(job: Job[ImportSpec]) -> dict[str, Any]:
    """Read what was not read, commit what was not committed, then serve it."""
    source = open_source(evidence_folder(job.bench.settings, job.spec.path))
    names = _names(job, source)
    spool = Spool(job.checkpoints / "rows.db", source.layout.batches)
    try:
        _read(job, source, spool)
        d_sae, _, _ = spool.size()
        if not d_sae:
            raise Invalid(f"There is no feature in {job.spec.path}.", path=job.spec.path)
        first = spool.rows(spool.indices(-1, 1)[0]).neuron.row
        names = Names(names.model, names.sae, hook_name_of(first))
        return _shelve(_Import(job, source, spool, names, d_sae))
    finally:
        spool.close()


def _names(job: Job[ImportSpec], source: Source) -> Names:
    """Ids on the shelf: those asked for, else the source's own."""
    names = Names(job.spec.model or source.names.model, job.spec.sae or source.names.sae)
    for field, name in (("model", names.model), ("sae", names.sae)):
        if not re.match(ID_PATTERN, name) or len(name) > 128:
            raise Invalid(
                f"The files call the {field} {name[:60]!r}, which is no id here; give one with "
                f"`{field}`: letters, digits, dots, dashes and underscores."
            )
    return names


def _refuse_loaded(job: Job[ImportSpec], names: Names) -> SaeRecord | None:
    """The SAE as it was imported before. Raises Conflict when it was loaded or trained."""
    stored = find_sae(job.bench.shelf, names.model, names.sae)
    if stored and stored.architecture != IMPORTED:
        raise Conflict(
            f"The SAE id {names.sae} is in use for an SAE that is here with its weights; choose "
            "another id with `sae`, or delete that one first."
        )
    return stored


def _read(job: Job[ImportSpec], source: Source, spool: Spool) -> None:
    """Bring all batches into the spool."""
    sizes = [batch.path.stat().st_size for batch in source.layout.batches]
    strings, done = Strings(spool.strings()), 0
    for batch, size in zip(source.layout.batches, sizes, strict=True):
        tick = partial(job.report, "read", done, sum(sizes))
        read_batch(spool, batch, source.names, strings, tick)
        done += size
    spool.refuse_strangers()


def _shelve(one: _Import) -> dict[str, Any]:
    """Register, commit, serve; nothing when just this evidence is served already."""
    shelf, fingerprint = one.job.bench.shelf, _fingerprint(one)
    stored = _refuse_loaded(one.job, one.names)
    result = {"model": one.names.model, "sae": one.names.sae, "fingerprint": fingerprint}
    if stored and stored.fingerprint == fingerprint and stored.run_id:
        return result | {"run": stored.run_id, "features": imports.count(shelf, stored.run_id)}
    if stored and stored.fingerprint != fingerprint and not stored.run_id:
        delete_sae(shelf, stored.model_id, stored.id)  # of an import that was given up
    _register(one, fingerprint)
    run_id = f"{one.job.id}.{one.names.sae}.{fingerprint[:12]}.{one.spool.id}"
    settings = {"format": one.source.layout.format, "source": one.job.spec.path}
    strings, (_, n_activations, n_tokens) = one.spool.strings(), one.spool.size()
    waiting_out(
        lambda: imports.begin(
            shelf, one.names.model, one.names.sae, one.job.spec.path, len(strings), settings, run_id
        )
    )
    n_features = _commit(one, run_id, Strings(strings))
    statistics = {"features": n_features, "activations": n_activations, "strings": len(strings)}
    waiting_out(lambda: imports.put_vocabulary(shelf, run_id, strings, n_activations, n_tokens))
    waiting_out(lambda: finish_runs(shelf, {run_id: statistics}))
    return result | {"run": run_id, **statistics}


def _fingerprint(one: _Import) -> str:
    """sha256 over all that was read."""
    batches = [(name.removesuffix(".gz"), digest) for name, digest in one.spool.digests()]
    return hashlib.sha256(orjson.dumps([sorted(batches), one.source.about])).hexdigest()


def _register(one: _Import, fingerprint: str) -> None:
    shelf, source, names = one.job.bench.shelf, one.source, one.names
    if find_model(shelf, names.model) is None:
        put_model(shelf, _model_record(one), Vocabulary([], [], []))
    told = {"format": source.layout.format, "path": one.job.spec.path, "about": source.about}
    put_sae(
        shelf,
        SaeRecord(
            model_id=names.model,
            id=names.sae,
            fingerprint=fingerprint,
            path="",
            hook_name=names.hook_name,
            layer=source.layer,
            architecture=IMPORTED,
            d_in=source.of_model("dimension"),
            d_sae=one.d_sae,
            steerable=False,
            steerable_reason=NOT_STEERABLE,
            provenance={"imported": told},
        ),
    )


def _model_record(one: _Import) -> ModelRecord:
    """Of a model whose files are not here. What is not known of it is 0."""
    id = one.names.model
    return ModelRecord(
        id=id,
        fingerprint=hashlib.sha256(f"imported {id}".encode()).hexdigest(),
        source="imported evidence; the model's files are not here",
        path="",
        n_layers=one.source.of_model("layers"),
        d_model=one.source.of_model("dimension"),
        d_mlp=one.source.of_model("neuronsPerLayer"),
        vocab_size=0,
        context_size=0,
        prepend_bos=False,
        hook_points={},
    )


def _commit(one: _Import, run_id: str, strings: Strings) -> int:
    """Put all ranges onto the shelf that are not there; how many features there are."""
    there = set(committed_ranges(one.job.bench.shelf, run_id))
    total = 0
    for first, stop, indices in _ranges(one):
        total += len(indices)
        if (first, stop) not in there:
            some = [_feature(one, index, strings) for index in indices]
            _put(one, run_id, first, stop, some)
        one.job.report("features", stop, one.d_sae)
    return total


def _put(
    one: _Import, run_id: str, first: int, stop: int, some: list[imports.ImportedFeature]
) -> None:
    waiting_out(lambda: imports.put(one.job.bench.shelf, run_id, first, stop, some))


def _ranges(one: _Import) -> Iterator[tuple[int, int, list[int]]]:
    """First, stop, and the features there are between; each begins where the one before stops."""
    first = 0
    while first < one.d_sae:
        indices = one.spool.indices(first - 1, RANGE_FEATURES)
        yield first, indices[-1] + 1, indices
        first = indices[-1] + 1


def _feature(one: _Import, index: int, strings: Strings) -> imports.ImportedFeature:
    rows = one.spool.rows(index)
    page = parse(rows)
    values = active(page.windows)
    whole = one.source.layout.format == "neuronpedia"
    with at(rows.neuron.place):
        kept = lacking(one.names, page, rows, values, whole)
        return feature(page, values, kept, strings)
