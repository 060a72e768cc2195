"""When recurring jobs fire: cron expressions and intervals, in any time zone. Pure, and every time is an argument."""

from __future__ import annotations

import difflib
import re
import uuid
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal

from cronsim import CronSim, CronSimError

from gopher_node.durations import format_duration

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip"]

MAX_EXPRESSION = 200
MIN_EVERY_MS = 1000
MAX_EVERY_MS = 366 * 86_400_000
MOST_MADE_UP = 100
"""Fires that were missed and are made up for at once, by the policy `all`."""
MOST_COUNTED = 1000
"""Fires up to which those that were missed are counted at a time."""
GRACE_MS = 60_000
"""How late a fire may be and is not missed yet: a node that is restarted takes less."""

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EXAMPLE = 'such as "30 7 * * 1-5" for 07:30 from Monday to Friday'
_EXPRESSION = re.compile(r"[0-9A-Za-z*,/#-]+([ \t]+[0-9A-Za-z*,/#-]+){4,5}\Z")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z")
_FIRES = uuid.uuid5(uuid.NAMESPACE_DNS, "recurring.gopher-node")


class ScheduleError(ValueError):
    """This says of no time, or of none that ever comes, when to fire. `field` is what is wrong."""

    def __init__(self, field: Literal["cron_expression", "timezone", "every"], reason: str) -> None:
        super().__init__(reason)
        self.field: Literal["cron_expression", "timezone", "every"] = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """
    Either a cron expression of five fields (minute, hour, day of month, month, weekday), six with seconds in front, or
    a nickname such as @daily, in a time zone; or an interval, counted from `anchor_ms` on. Times are epoch ms.

    When clocks change it does as Debian's cron. A job of fixed hours runs once a day: what falls into the hour that is
    left out runs right after it, and in the hour that comes twice it runs the first time. A job whose minutes or hours
    begin with a star follows the time that passes.
    """

    cron: str = ""
    every_ms: int = 0
    timezone: str = "UTC"
    anchor_ms: int = 0

    def check(self, now_ms: int) -> None:
        """Raises ScheduleError, which says what is wrong and gives an example."""
        if self.every_ms:
            if not MIN_EVERY_MS <= self.every_ms <= MAX_EVERY_MS:
                raise ScheduleError("every", 'must be from 1s to 366d, such as "15m"')
            return
        zone = _zone(self.timezone)
        fields = _fields(self.cron)
        try:
            CronSim(fields, datetime.fromtimestamp(0, zone))
        except CronSimError as error:
            wrong = str(error).removeprefix("Bad ")
            raise ScheduleError("cron_expression", f"has a {wrong} that is none, or never comes; {_EXAMPLE}") from None
        if self.next_after(now_ms) is None:
            raise ScheduleError("cron_expression", f"never fires; write one that does, {_EXAMPLE}")

    def fires_after(self, after_ms: int) -> Iterator[int]:
        """All fires later than this, each later than the one before."""
        if self.every_ms:
            at = self.anchor_ms + max(1, (after_ms - self.anchor_ms) // self.every_ms + 1) * self.every_ms
            while True:
                yield at
                at += self.every_ms
        fields, plus_ms = _split_seconds(_fields(self.cron))
        last = after_ms
        for moment in CronSim(fields, datetime.fromtimestamp((after_ms - plus_ms) // 1000, _zone(self.timezone))):
            # What the change of clocks moves may fall on another fire, or even before this time.
            at = round(moment.timestamp()) * 1000 + plus_ms
            if at > last:
                last = at
                yield at

    def next_after(self, after_ms: int) -> int | None:
        return next(self.fires_after(after_ms), None)

    def between(self, after_ms: int, until_ms: int, most: int) -> list[int]:
        """The first fires later than one time and not later than the other."""
        return list(islice(takewhile(lambda at: at <= until_ms, self.fires_after(after_ms)), most))

    def latest(self, after_ms: int, until_ms: int, most: int) -> list[int]:
        """The last fires of that time, oldest first. It takes no longer if there were millions before."""
        found = self.between(after_ms, until_ms, most + 1)
        if len(found) <= most:
            return found
        # More than `most` lie after `low`, and no more than these after `high`. Fires are whole seconds apart.
        low, high = after_ms, until_ms
        while high - low > 1000:
            middle = (low + high) // 2
            if len(self.between(middle, until_ms, most + 1)) > most:
                low = middle
            else:
                high = middle
        return self.between(high, until_ms, most)

    def in_words(self) -> str:
        if self.every_ms:
            return f"Every {format_duration(self.every_ms / 1000)}"
        words = CronSim(_fields(self.cron), datetime.fromtimestamp(0, UTC)).explain()
        return f"{words} ({self.timezone})"

    def local(self, at_ms: int) -> str:
        """A time as the clocks of its zone show it, in RFC 3339."""
        return datetime.fromtimestamp(at_ms // 1000, _zone(self.timezone)).isoformat()


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step of a recurring job that stands at `due_ms`: fire for `fire_ms`, or not at all, and stand at `next_ms` then.

    `missed` is how many fires are given up with it.
    """

    due_ms: int
    fire_ms: int | None
    next_ms: int | None
    missed: int = 0


def plan(schedule: Schedule, due_ms: int, now_ms: int, missed: Missed) -> list[Step]:
    """
    What is to be done, in this order, with a recurring job that stands at `due_ms`.

    One fire that is due is fired. Where more are due, because nobody was there, `all` fires the last hundred, `once`
    the last one, and so does `skip` if that is not late by more than a minute.
    """
    if due_ms > now_ms:
        return []
    most = MOST_MADE_UP if missed == "all" else 1
    firing = schedule.latest(due_ms, now_ms, most)
    due = 1 + (len(schedule.between(due_ms, now_ms, MOST_COUNTED)) if firing else 0)
    if len(firing) < most:
        # Whoever had it stand here may know the zone's rules better.
        firing.insert(0, due_ms)
    next_ms = schedule.next_after(now_ms)
    if missed == "skip" and now_ms - firing[-1] > GRACE_MS:
        return [Step(due_ms, None, next_ms, due)]
    given_up = max(0, due - len(firing))
    stands, then = [due_ms, *firing[1:]], [*firing[1:], next_ms]
    return [Step(stands[index], fire_ms, then[index], 0 if index else given_up) for index, fire_ms in enumerate(firing)]


def fire_id(name: str, fire_ms: int) -> str:
    """The id of the job that a recurring job brings at this time: whoever fires it, it is the same."""
    return str(uuid.uuid5(_FIRES, f"{name} {fire_ms}"))


def _fields(expression: str) -> str:
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in NICKNAMES:
            known = ", ".join(NICKNAMES)
            raise ScheduleError("cron_expression", f'must be one of {known}, or fields; for an interval say "every"')
        return NICKNAMES[text.lower()]
    if len(text) > MAX_EXPRESSION or not _EXPRESSION.match(text):
        raise ScheduleError(
            "cron_expression",
            f"must be five fields (minute, hour, day of month, month, weekday), or six, seconds first, {_EXAMPLE}",
        )
    return text


def _split_seconds(fields: str) -> tuple[str, int]:
    """Six fields with one second as five, and how many ms that is later: so clocks may change as with five."""
    parts = fields.split()
    if len(parts) == 6 and re.fullmatch(r"[0-9]{1,2}", parts[0]):
        return " ".join(parts[1:]), int(parts[0]) * 1000
    return fields, 0


@lru_cache(maxsize=1000)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        # The machine's own zone is another one on each machine.
        if not _ZONE.match(name) or name.lower() in ("localtime", "local", "factory"):
            raise ValueError
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = zoneinfo.available_timezones() - {"localtime", "Factory"}
        city = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known, reverse=True)}
        close = difflib.get_close_matches(name[:40], known, 1)
        found = city.get(name[:40].rpartition("/")[2].lower()) or (close[0] if close else None)
        example = f"; did you mean {found}?" if found else ', such as "Europe/Berlin"'
        raise ScheduleError("timezone", f"must be the name of a time zone{example}") from None
