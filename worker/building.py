"""One thread at a time builds modules.

While transformers builds a model, the whole process has other initialisers in `torch.nn.init`, another
default dtype, and models that do not tie their weights. A model or an SAE that a second thread builds
meanwhile comes out untied or uninitialised; jobs do run beside each other in one process.
"""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_building = threading.RLock()


def one_at_a_time(build: Callable[P, T]) -> Callable[P, T]:
    """Let one thread at a time into any function that is decorated so."""

    @functools.wraps(build)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _building:
            return build(*args, **kwargs)

    return alone
