"""How long things take: counted into fixed buckets, from which quantiles are read and histograms are shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import inf

BOUNDS: tuple[float, ...] = tuple(
    float(f"{digit}e{decade}") for decade in range(-4, 4) for digit in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8.5)
)
"""Upper bounds of the buckets, in seconds: eleven for each power of ten, from 0.1 ms to more than two hours."""

_PLACES = {str(place): place for place in range(len(BOUNDS) + 1)}


class Latency:
    """
    Counts of seconds, in one bucket for each of `BOUNDS` and one for all beyond.

    A bound belongs to its bucket, as in a Prometheus histogram; so any of the bounds can be one of such a histogram.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def merge(self, other: Latency) -> None:
        for place, count in enumerate(other.counts):
            self.counts[place] += count
        self.sum += other.sum

    def since(self, before: Latency) -> Latency:
        """What has come since it stood as `before`, a copy of it."""
        new = Latency()
        new.counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        new.sum = max(0.0, self.sum - before.sum)
        return new

    def copy(self) -> Latency:
        new = Latency()
        new.counts, new.sum = list(self.counts), self.sum
        return new

    def quantile(self, q: float) -> float | None:
        """
        Seconds that the part `q` of all stayed within, or None of nothing.

        Inside a bucket the values count as spread evenly (as Prometheus' histogram_quantile has it), so it is off by a
        bucket's width at most: a third of the value. What lies beyond the last bound counts as that bound.
        """
        total = self.count
        if not total:
            return None
        wanted, below = q * total, 0
        for place, count in enumerate(self.counts[:-1]):
            if count and below + count >= wanted:
                lower = BOUNDS[place - 1] if place else 0.0
                return lower + (BOUNDS[place] - lower) * max(0.0, wanted - below) / count
            below += count
        return BOUNDS[-1]

    def cumulated(self, bounds: tuple[float, ...]) -> list[tuple[float, int]]:
        """For each of these bounds, which are among `BOUNDS`, how many stayed within it; the last is infinity's."""
        found: list[tuple[float, int]] = []
        seen, wanted = 0, iter((*bounds, inf))
        bound = next(wanted)
        for upper, count in zip((*BOUNDS, inf), self.counts, strict=True):
            seen += count
            if upper == bound:
                found.append((bound, seen))
                bound = next(wanted, inf)
        return found

    def sparse(self) -> dict[str, int]:
        """The buckets that are not empty, by their number, for JSON."""
        return {str(place): count for place, count in enumerate(self.counts) if count}

    def add(self, sparse: Mapping[str, int], total: float) -> None:
        """Add what was told so, with its sum. What is no bucket of this version is left out."""
        counts = self.counts
        for place, count in sparse.items():
            at = _PLACES.get(place)
            if at is not None:
                counts[at] += count
        self.sum += total
