"""Models that are being fetched now: how far each is, and which name will stand for it. For those who wait for one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

from meshnode.models.catalogue import PackagedModel
from meshnode.models.pull import PullProgress, Report
from meshnode.models.sources import Source


class Arrival:
    """One pull under way. ``source`` is how it is shown; ``changed`` is set, and replaced, at each report."""

    def __init__(self, source: str, model: str) -> None:
        self.source = source
        self.changed = trio.Event()
        self.over = False
        """It ended, well or not: asking the library again tells which."""
        self._model = model
        self._progress = PullProgress(phase="fetch")

    @property
    def phase(self) -> str:
        """``fetch``, ``verify`` or ``unpack``."""
        return self._progress.phase

    @property
    def fraction(self) -> float:
        """Of the fetching, 0..1; 0 where nobody said how much there is to fetch."""
        done, total = self._progress.done, self._progress.total
        if self._progress.phase != "fetch":
            return 1.0
        return min(1.0, done / total) if total else 0.0

    def telling(self, report: Report) -> Report:
        """``report``, that lets those who wait for this know as well."""

        async def told(progress: PullProgress) -> None:
            self._progress = progress
            self._tell()
            await report(progress)

        return told

    def end(self) -> None:
        """Nobody need wait for it any more."""
        self.over = True
        self._tell()

    def becomes(self, name: str) -> bool:
        """Whether the model will have this name; only of the packaged model that is known beforehand."""
        wanted = name.strip().lower()
        return bool(self._model) and wanted in (self._model, self._model.rpartition(":")[0])

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Arrivals:
    """The pulls of a library."""

    def __init__(self) -> None:
        self._under_way: list[Arrival] = []

    def __iter__(self) -> Iterator[Arrival]:
        return iter(tuple(self._under_way))

    @contextlib.contextmanager
    def under_way(self, source: Source, shown: str) -> Iterator[Arrival]:
        """A pull for the length of the block."""
        arrival = Arrival(shown, str(source.id) if isinstance(source, PackagedModel) else "")
        self._under_way.append(arrival)
        try:
            yield arrival
        finally:
            self._under_way.remove(arrival)
            arrival.end()

    def of(self, name: str | None) -> Arrival | None:
        """The pull that will bring the model of this name; without a name, the first of all."""
        return next((one for one in self._under_way if name is None or one.becomes(name)), None)
