"""``make bench``: the counts that docs/performance.md states, on a cluster of the benchmark's own.

PART chooses: ``requests`` (200 gateways, two replicas in pods), ``fleet`` (one EdgeDeployment over 1,000, 3,000 and
10,000 gateways), ``deployments`` (1,000 EdgeDeployments over 1,000 gateways), or ``all``.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from e2e import install
from e2e.bench import fleet, requests
from e2e.bench.fleet import Bench
from e2e.bench.operator_process import OperatorProcess
from e2e.cluster import choice as clusters
from e2e.cluster.folders import DEFAULT_NAME
from e2e.progress import Progress

SIZES = (1_000, 3_000, 10_000)
DEPLOYMENTS = 1_000


def count_requests(name: str, gateways: int, progress: Progress) -> None:
    """The operator in pods, two replicas, over a few hundred gateways."""
    with progress.phase(f"A cluster with {gateways} gateways, modelfleet installed"):
        cluster = clusters.up(name, gateways, "own", progress.say)
        install.install(cluster, install.TARGETS, progress)
    cluster.kubectl("create", "namespace", "bench", check=False)
    with progress.phase("Rollouts, counted"):
        counts = requests.measure(cluster, cluster.kubectl.within("bench"), gateways, progress)
    progress.console.print(requests.table(counts, gateways))


def prepared(name: str, progress: Progress) -> Bench:
    """A cluster without gateways, the chart installed, two versions registered, the operator not started."""
    cluster = clusters.up(name, 0, "local", progress.say)
    cluster.gateways.start(cluster.kubeconfig, progress.say)
    operator = OperatorProcess(cluster)
    operator.prepare(install.helm(cluster, progress.say))
    bench = Bench(cluster, operator, progress)
    bench.register()
    return bench


def grow_fleet(name: str, sizes: Sequence[int], progress: Progress) -> None:
    """One EdgeDeployment over ever more gateways."""
    with progress.phase("A cluster, the chart installed, the operator a process"):
        bench = prepared(name, progress)
        bench.operator.start()
    updated, before = [], 0
    versions = ("1.0.0", "2.0.0")
    for number, size in enumerate(sizes):
        with progress.phase(f"{size} gateways"):
            bench.one_deployment(size, versions[number % 2], f"{size - before} gateways join")
            updated.append(bench.one_deployment(size, versions[(number + 1) % 2], f"update of {size}"))
            before = size
    with progress.phase(f"{sizes[-1]} gateways, converged"):
        bench.restart("restart to first write", sizes[-1])
        bench.quiet(sizes[-1])
    progress.console.print(fleet.table(f"One EdgeDeployment, {fleet.POOLS} pools", bench.spent))
    if len(sizes) > 1:
        progress.console.print(
            f"CPU time of an update grows with the fleet's size to the power of {fleet.growth(updated):.2f}"
        )


def many_deployments(name: str, count: int, progress: Progress) -> None:
    """As many EdgeDeployments as gateways."""
    with progress.phase(f"A cluster with {count} gateways, the chart installed, the operator a process"):
        bench = prepared(name, progress)
        bench.scale(count)
        bench.operator.start()
    with progress.phase(f"{count} EdgeDeployments"):
        bench.many_deployments(count, "1.0.0", "first rollout")
        bench.many_deployments(count, "2.0.0", "update")
        bench.quiet(count)
    progress.console.print(fleet.table(f"{count} EdgeDeployments over {count} gateways", bench.spent))


def main() -> int:
    """Entry point of ``python -m e2e.bench``."""
    parser = argparse.ArgumentParser(prog="e2e.bench", description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=("all", "requests", "fleet", "deployments"))
    parser.add_argument("--name", default=f"{DEFAULT_NAME}-bench", help="cluster to make and take down")
    parser.add_argument("--gateways", type=int, default=200, help="simulated gateways of `requests`")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="gateways of `fleet`, ascending")
    parser.add_argument("--deployments", type=int, default=DEPLOYMENTS, help="deployments of `deployments`")
    options = parser.parse_args()
    progress = Progress()
    parts: dict[str, Callable[[], None]] = {
        "requests": lambda: count_requests(options.name, options.gateways, progress),
        "fleet": lambda: grow_fleet(options.name, options.sizes, progress),
        "deployments": lambda: many_deployments(options.name, options.deployments, progress),
    }
    try:
        for part, run in parts.items():
            if options.part in ("all", part):
                # Each part counts on a cluster that nothing else has used.
                try:
                    run()
                finally:
                    clusters.down(options.name, report=progress.say)
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        return progress.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
