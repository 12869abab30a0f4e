"""Several SAEs in one specification: what each would be alone, and whose fault an error is."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.contract.jobs import AlsoTrain, TrainSpec
from app.errors import Invalid, Problem
from worker.train.sparsity import unused_number


def each(spec: TrainSpec) -> list[TrainSpec]:
    """One specification for each SAE, as if it were trained alone, in the order of `spec`.

    Raises:
        Invalid: two of them have the same id.
    """
    ids = [spec.sae, *(more.sae for more in spec.also)]
    for sae_id in ids:
        if ids.count(sae_id) > 1:
            raise Invalid(f"The SAE id {sae_id} is given twice; give every SAE an id of its own.")
    return [spec.model_copy(update={"also": []}), *(_alone(spec, more) for more in spec.also)]


def _alone(spec: TrainSpec, more: AlsoTrain) -> TrainSpec:
    given = more.model_dump(exclude_none=True)
    unused = unused_number(more.architecture or spec.architecture)
    return spec.model_copy(update={"also": [], unused: None, **given})


@contextmanager
def naming(sae_id: str, among: int) -> Iterator[None]:
    """Say in front of a problem which of several SAEs it is about."""
    try:
        yield
    except Problem as problem:
        if among > 1:
            raise type(problem)(f"{sae_id}: {problem.detail}", **problem.fields) from problem
        raise
