"""A progress bar on stderr, shown on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .common import GlobalOptions


@contextmanager
def bar(
    what: str, total: int | Callable[[], int], *, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """A function to call with each step's size; the bar shows the rate and the time left.

    A `total` that has to be asked for is asked for only where the bar is shown; about is near enough.
    """
    if hidden or GlobalOptions.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s")

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total() if callable(total) else total)
        yield lambda step: progress.advance(task, step)
