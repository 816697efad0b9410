"""Maintenance windows: whether one is open, and when that changes.

A window opens by a cron schedule in its own time zone and stays open for a duration of real time. At changes to and
from summer time the schedule behaves as Debian's cron does: what falls into the missing hour opens right after it, and
what falls into the hour that comes twice opens once. The tables of time zones are data that is installed along
(``tzdata``); reading them is the only thing here that is not computed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from modelfleet.api import duration
from modelfleet.api.edge_deployment import MaintenanceWindow


class InvalidWindowError(ValueError):
    """A window that the contract lets pass and no calendar knows; the message names the field and the remedy."""


@dataclass(frozen=True)
class Window:
    """A maintenance window at one moment."""

    is_open: bool
    changes: datetime
    """When it closes, or opens next, in UTC. It may turn out to be open for longer, where one firing of the schedule
    follows on another."""

    def shown(self, time_zone: str) -> str:
        """That moment as people at the place read it."""
        return f"{self.changes.astimezone(_zone(time_zone)).isoformat(timespec='minutes')} ({time_zone})"


def look(window: MaintenanceWindow, now: datetime) -> Window:
    """Whether the window is open. Raises :class:`InvalidWindowError`."""
    zone = _zone(window.time_zone)
    length = duration.parse(window.duration)
    since = (now - length).astimezone(UTC)
    try:
        firings = CronSim(window.schedule, since.astimezone(zone))
        # In the hour that comes twice, the first firing found may lie before the moment that was asked from.
        opens = next(at for at in (firing.astimezone(UTC) for firing in firings) if at > since)
    except CronSimError as error:
        raise InvalidWindowError(
            f"spec.strategy.maintenanceWindow.schedule: {str(error).lower()} in '{window.schedule}';"
            " give minute, hour, day of month, month and day of week, such as 0 2 * * *"
        ) from None
    except (StopIteration, RuntimeError):
        raise InvalidWindowError(
            f"spec.strategy.maintenanceWindow.schedule: '{window.schedule}' names no day that there is; correct it"
        ) from None
    if opens <= now:
        return Window(True, opens + length)
    return Window(False, opens)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidWindowError(
            f"spec.strategy.maintenanceWindow.timeZone: there is no time zone {name}; give one of the IANA database,"
            " such as Asia/Shanghai"
        ) from None
