"""The phase over tokens: every shard that is not spilled yet goes through model and dictionaries.

On CUDA the model and the encoders have a stream of their own, which does not wait for what they
give to be copied to the host and written.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial

from worker.cluster.crew import Crew
from worker.materials import Opened
from worker.precompute.appender import Appender
from worker.precompute.forecast import check_room, spill_bytes
from worker.precompute.forward import Forward
from worker.precompute.plan import Shard
from worker.precompute.report import Meter
from worker.precompute.spill import ShardWriter
from worker.precompute.work import Recipe, Work
from worker.streams import own_stream
from worker.tokens import batches


def spill_tokens(work: Work, crew: Crew | None) -> None:
    """Spill the shards that are not there yet, here or by a crew.

    Raises:
        Unavailable: the disk has no room for them.
        Cancelled: out of the progress; complete shards stay.
    """
    missing = {
        shard: names
        for shard in work.shards
        if (names := [name for name, spill in work.spills.items() if not spill.has(shard)])
    }
    if missing:
        with work.report.timed("forecast"):
            _check_room(work, missing)
    left = sum(_tokens(work, shard) for shard in missing)
    meter = Meter(work.progress, "tokens", int(work.sequences.offsets[-1]), left)
    with work.report.timed("tokens"):
        if crew is None:
            for unit in missing.items():
                _fill(work, *unit, meter.add)
        else:
            tick = partial(meter.add, 0)
            units = crew.run(partial(_shards, work.recipe), missing.items(), len(missing), tick)
            with closing(units):
                for (shard, _), l0 in units:
                    meter.add(_tokens(work, shard), l0)


def _shards(recipe: Recipe, opened: Opened) -> Callable[[Shard, Sequence[str]], dict[str, float]]:
    """What a crew's processes do a shard with."""
    return partial(_fill, recipe.work(opened))


def _tokens(work: Work, shard: Shard) -> int:
    offsets = work.sequences.offsets
    return int(offsets[shard.stop] - offsets[shard.first])


def _check_room(work: Work, missing: Mapping[Shard, Sequence[str]]) -> None:
    whole = spill_bytes(work.model, work.dictionaries, work.sequences, work.settings)
    needed = sum(whole[name] for names in missing.values() for name in names)
    check_room(work.folder, needed // len(work.shards))


def _fill(
    work: Work,
    shard: Shard,
    names: Sequence[str],
    on_batch: Callable[[int, dict[str, float]], None] = lambda *_: None,
) -> dict[str, float]:
    """Run a shard through the dictionaries that do not have it; mean active features a token."""
    forward = Forward(work.model, [work.spills[name].dictionary for name in names])
    tokens, active, l0 = 0, dict.fromkeys(names, 0), {}
    with own_stream(work.model.device), ExitStack() as stack:
        writers = _writers(work, shard, names, stack)
        for batch in batches(work.sequences, work.settings.batch_tokens, shard.first, shard.stop):
            for encoded in forward.encode(batch, shard.first, work.bits):
                name = encoded.dictionary.id
                active[name] += writers[name].add(encoded)
            tokens += int(forward.counted(batch).sum())
            l0 = {f"l0/{name}": entries / max(tokens, 1) for name, entries in active.items()}
            on_batch(int(batch.mask.sum()), l0)
        for writer in writers.values():
            writer.close(tokens)
    return l0


def _writers(
    work: Work, shard: Shard, names: Sequence[str], stack: ExitStack
) -> dict[str, ShardWriter]:
    """Writers of a shard, whose folders `stack` completes or removes once nothing is written to
    them any more."""
    folders = {name: stack.enter_context(work.spills[name].new(shard)) for name in names}
    appender = stack.enter_context(closing(Appender(work.model.device)))
    limit = work.settings.segment_limit(len(work.dictionaries))
    return {
        name: ShardWriter(folder, work.spills[name].dictionary, limit, appender)
        for name, folder in folders.items()
    }
