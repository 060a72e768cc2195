"""Shows how far a submit of many jobs has come: as a bar on the terminal, or through the caller's own function."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Called with the number of jobs done and, if it is known, of all of them."""


@contextmanager
def showing(progress: bool | Report | None, total: int | None) -> Generator[Callable[[int], None]]:
    """Gives the function to be told how many jobs are done by now."""
    if callable(progress):
        report = progress
        yield lambda done: report(done, total)
    elif progress:
        yield from _bar(total)
    else:
        yield lambda done: None


def _bar(total: int | None) -> Generator[Callable[[int], None]]:
    # Only who wants a bar pays for its library.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Submitting", total=total)
        yield lambda done: bar.update(task, completed=done)


def count_of(jobs: object) -> int | None:
    """How many there are, if that can be known without looking at them."""
    length = getattr(jobs, "__len__", None)
    return length() if callable(length) else None  # pyright: ignore[reportReturnType]
