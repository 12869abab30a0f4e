"""What commands print: sentences on stderr, and one progress bar for a job."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from app.contract.jobs import JobView

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """A line for a person; markup characters mean themselves."""
    err.print(sentence, markup=False)


def fail(sentence: str) -> None:
    """A line that says why the command ends."""
    print(f"saescope: {sentence}", file=sys.stderr)


class Bar:
    """A progress bar with phase, rate and time left. Where nobody watches (output to a file), a
    line for each phase instead."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._said = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._progress.add_task(title, total=1.0, pace="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, view: JobView, done: float | None = None) -> None:
        """Draw a job as it stands; `done` (0 to 1) when it is only a part of what is shown."""
        phase = view.phase or view.state
        share = view.progress if done is None else done
        self._progress.update(
            self._task,
            completed=share,
            description=f"{self._title}: {phase}",
            pace=pace(view),
        )
        if not err.is_terminal and phase != self._said:
            self._said = phase
            say(f"{self._title}: {phase} ({share:.0%})")


def pace(view: JobView) -> str:
    """Rate and time left: `12,340/s, 0:42 left`."""
    told = []
    if view.rate:
        told.append(f"{view.rate:,.0f}/s" if view.rate >= 10 else f"{view.rate:.1f}/s")
    if view.eta is not None:
        minutes, seconds = divmod(round(view.eta), 60)
        told.append(f"{minutes}:{seconds:02d} left")
    return ", ".join(told)
