"""Precompute, from tokens to evidence: the steps of the package's docstring, timed.

A run can stop at any moment: by `Cancelled` out of `on_progress`, by any error, by a kill -9.
Called again with the same arguments and the ranges that were committed, it goes on from complete
shards and ranges, and hands over the bytes that an uninterrupted run does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from app.errors import Invalid
from app.store.records import FeatureBatch
from worker.cluster.crew import Crew
from worker.models import LanguageModel
from worker.precompute.feature_phase import Ranges, finish_features
from worker.precompute.kept import in_use
from worker.precompute.report import Report
from worker.precompute.settings import Settings
from worker.precompute.token_phase import spill_tokens
from worker.precompute.work import Work
from worker.progress import Progress, silent
from worker.saes import Dictionary
from worker.tokens import Sequences


def precompute(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    sequences: Sequences,
    *,
    spill_dir: Path,
    on_range: Callable[[str, FeatureBatch], None],
    on_progress: Progress = silent,
    done_ranges: Ranges | None = None,
    settings: Settings | None = None,
    crew: Crew | None = None,
) -> Report:
    """Compute the evidence of every feature of `dictionaries` (ids all different) on a corpus.

    `on_range(id, batch)` commits a range of features of a dictionary; ranges in `done_ranges` are
    left out. `spill_dir` holds intermediate files, which later calls go on from, also over other
    corpora that begin alike: the caller bounds what is kept there (`worker.precompute.kept`).
    `settings` are by default those that suit the model's device. With a `crew`, which works from the
    same materials, its processes do the shards and the ranges. Reports phase `tokens` in tokens
    (metrics: mean active features a token, `l0/<id>`), then `features` in features.

    Raises:
        Invalid: two dictionaries have the same id, or the model's activations are not finite.
        Unavailable: the disk of `spill_dir` has no room for the intermediate files.
        Cancelled: out of `on_progress`; complete shards and committed ranges stay.
    """
    _check_ids(dictionaries)
    settings = settings or Settings.on(model.device)
    kind = crew.kind if crew else ""
    work = Work(model, dictionaries, sequences, spill_dir, settings, on_progress, kind)
    with in_use(spill.folder for spill in work.spills.values()):
        spill_tokens(work, crew)
        finish_features(work, done_ranges or {}, on_range, crew)
    return work.report


def _check_ids(dictionaries: Sequence[Dictionary]) -> None:
    ids = [one.id for one in dictionaries]
    for name in ids:
        if ids.count(name) > 1:
            raise Invalid(f"Two dictionaries have the id {name}; give each an id of its own.")
