"""What something costs a controller: requests by the API server's audit log, CPU time and memory by the kernel."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from e2e.audit import AuditLog, Request, tally, writes
from e2e.bench.controller import SETTLING_SECONDS, Controller
from e2e.progress import Progress

_WORTH_A_ROW = 0.005


@dataclass(frozen=True)
class Spent:
    """What something cost."""

    what: str
    objects: int
    """Gateways or objects that it was about."""
    requests: Sequence[Request]
    cpu_seconds: float
    peak_bytes: int
    status_bytes: int
    """Of the largest status."""

    @property
    def made(self) -> int:
        """Writes, the Lease and dry runs apart."""
        return sum(not each.dry_run for each in writes(list(self.requests)))

    @property
    def on_nodes(self) -> int:
        """Writes on Nodes: what a gateway costs, however many others there are."""
        return sum(each.resource == "nodes" for each in writes(list(self.requests)))

    @property
    def reads(self) -> int:
        """Gets and lists, the Lease apart; a watch is one request however long it lasts."""
        return sum(each.verb in ("get", "list") and each.resource != "leases" for each in self.requests)

    def each(self) -> dict[str, float]:
        """How often each thing was asked of the API server, an object; watches and the Lease apart."""
        counted = [each for each in self.requests if each.verb != "watch" and each.resource != "leases"]
        return {what: count / self.objects for what, count in tally(counted).most_common()}


class Meter:
    """Reads a controller's costs around each thing that happens."""

    def __init__(self, controller: Controller, status_bytes: Callable[[], int], progress: Progress) -> None:
        if controller.cluster.audit_log is None:
            raise RuntimeError("this cluster's audit log is out of reach")
        self.controller = controller
        self.spent: list[Spent] = []
        self._audit = AuditLog(controller.cluster.audit_log)
        self._status_bytes = status_bytes
        self._progress = progress

    def measure(self, what: str, objects: int, act: Callable[[], None], settling: float = SETTLING_SECONDS) -> Spent:
        """Do something and wait until what is left to write for it, the last settled counts, is written."""
        before = self.controller.cpu_seconds()
        self._audit.mark()
        act()
        time.sleep(settling)
        return self._note(what, objects, before)

    def measure_start(self, what: str, objects: int, act: Callable[[], None]) -> Spent:
        """Start the controller and do something; all that it used since then counts."""
        self._audit.mark()
        self.controller.start()
        act()
        return self._note(what, objects, 0.0)

    def _note(self, what: str, objects: int, cpu_before: float) -> Spent:
        spent = Spent(
            what,
            objects,
            self._audit.since_mark(self.controller.user),
            self.controller.cpu_seconds() - cpu_before,
            self.controller.peak_bytes(),
            self._status_bytes(),
        )
        self.spent.append(spent)
        memory, status = spent.peak_bytes / 2**20, spent.status_bytes / 2**10
        self._progress.keep(
            f"{what}: {spent.made} writes, {spent.reads} reads, {spent.cpu_seconds:.1f} CPU s, peak {memory:.0f} MiB, "
            f"status {status:.1f} KiB"
        )
        return spent


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """How CPU time grows with size: the straight line through it (least squares), and the power law."""
    slope, intercept = statistics.linear_regression(sizes, seconds)
    share = statistics.correlation(sizes, seconds) ** 2
    power, _ = statistics.linear_regression([math.log(each) for each in sizes], [math.log(each) for each in seconds])
    return (
        f"{intercept:.1f} s + {1000 * slope:.1f} s per 1,000 (which explains {share:.1%} of the differences); "
        f"grows with size to the power of {power:.2f}"
    )


def table(title: str, costs: Sequence[Spent]) -> Table:
    """A row for each thing that happened."""
    answer = Table(title=title)
    columns = (
        "",
        "objects",
        "writes",
        "of that on nodes",
        "writes each",
        "reads each",
        "CPU s per 1,000",
        "peak MiB",
        "status KiB",
    )
    for column in columns:
        answer.add_column(column, justify="left" if not column else "right")
    for cost in costs:
        answer.add_row(
            cost.what,
            str(cost.objects),
            str(cost.made),
            str(cost.on_nodes),
            f"{cost.made / cost.objects:.2f}",
            f"{cost.reads / cost.objects:.3f}",
            f"{cost.cpu_seconds / cost.objects * 1000:.2f}",
            f"{cost.peak_bytes / 2**20:.0f}",
            f"{cost.status_bytes / 2**10:.1f}",
        )
    return answer


def requests_table(title: str, columns: Mapping[str, Spent]) -> Table:
    """A row for each thing that was asked of the API server, how often an object; a column for each cost."""
    answer = Table(title=title)
    answer.add_column("for each object")
    for name in columns:
        answer.add_column(name, justify="right")
    asked = [spent.each() for spent in columns.values()]
    rows = sorted({what for each in asked for what in each}, key=lambda what: (_is_read(what), what))
    for what in rows:
        counts = [each.get(what, 0.0) for each in asked]
        if max(counts) >= _WORTH_A_ROW:
            answer.add_row(what, *(f"{count:.2f}" if count else "" for count in counts))
    answer.add_section()
    answer.add_row("writes", *(f"{spent.made / spent.objects:.2f}" for spent in columns.values()))
    answer.add_row("all requests", *(f"{sum(each.values()):.2f}" for each in asked))
    answer.add_row("CPU ms", *(f"{spent.cpu_seconds / spent.objects * 1000:.1f}" for spent in columns.values()))
    return answer


def _is_read(what: str) -> bool:
    return what.startswith(("get ", "list ")) or what.endswith("(dry run)")
