"""``make bench``: the counts that docs/performance.md states, on a cluster of the benchmark's own.

PART chooses: ``plans`` (planning alone, over 1,000, 3,000 and 10,000 gateways in memory), ``requests`` (200 gateways,
two replicas in pods), ``fleet`` (one EdgeDeployment over 1,000, 3,000 and 10,000 gateways), ``deployments`` (1,000
EdgeDeployments over 1,000 gateways, then as many Rollouts of Argo Rollouts on the same API server), ``training`` (100
TrainingJobs of four pods each, then as many JobSets on the same API server), or ``all``.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from e2e import install
from e2e.bench import meter, operator_pod, plans, requests, simulation, trainings, workshop
from e2e.bench.fleet import POOLS, Bench, Order
from e2e.bench.jobsets import JobSets
from e2e.bench.meter import Spent
from e2e.bench.peer import Peer
from e2e.cluster import choice as clusters
from e2e.cluster.folders import DEFAULT_NAME
from e2e.progress import Progress

SIZES = (1_000, 3_000, 10_000)
DEPLOYMENTS = 1_000
JOBS = 100
PARTS = ("all", "plans", "requests", "fleet", "deployments", "training")


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
    simulation.slim(cluster)
    cluster.gateways.start(cluster.kubeconfig, progress.say)
    bench = Bench(cluster, operator_pod.prepare(cluster, progress), progress)
    bench.register()
    return bench


def grow_fleet(name: str, sizes: Sequence[int], progress: Progress) -> None:
    """One EdgeDeployment over ever more gateways: those that join, an update in either order, and nothing."""
    with progress.phase("A cluster, the chart installed, the operator in a pod"):
        bench = prepared(name, progress)
        bench.operator.warm_up()
    orders: dict[Order, list[Spent]] = {"PrefetchFirst": [], "StopFirst": []}
    before = 0
    for size in sizes:
        with progress.phase(f"{size} gateways"):
            bench.one_deployment(size, "1.0.0", f"{size - before} join", written=size - before)
            for version, (order, spent) in zip(("2.0.0", "1.0.0"), orders.items(), strict=True):
                spent.append(bench.one_deployment(size, version, f"update, {order}", order))
            bench.quiet(size)
            bench.restart("restart to first write", size)
            before = size
    progress.console.print(meter.table(f"One EdgeDeployment, {POOLS} pools", bench.meter.spent))
    if len(sizes) > 1:
        for order, spent in orders.items():
            line = meter.growth(sizes, [each.cpu_seconds for each in spent])
            progress.console.print(f"CPU time of an update, {order}: {line}")


def plan_alone(sizes: Sequence[int], progress: Progress) -> None:
    """The operator's plans over ever larger fleets in memory; no cluster."""
    with progress.phase("Plans in memory"):
        planned = plans.measure(sizes)
    progress.console.print(plans.table(planned))
    if len(sizes) > 1:
        line = meter.growth(sizes, [each.update_seconds for each in planned])
        progress.console.print(f"CPU time of an update's plans: {line}")


def many_deployments(name: str, count: int, progress: Progress) -> None:
    """As many EdgeDeployments as gateways, and then as many Rollouts of a peer."""
    with progress.phase(f"A cluster with {count} gateways, the chart installed, the operator in a pod"):
        bench = prepared(name, progress)
        bench.scale(count)
        bench.operator.warm_up()
    with progress.phase(f"{count} EdgeDeployments"):
        bench.many_deployments(count, "1.0.0", "first rollout")
        bench.many_deployments(count, "2.0.0", "update")
        bench.quiet(count)
    bench.operator.stop()
    with progress.phase(f"Argo Rollouts: {count} Rollouts with canary steps, on the same API server"):
        bench.cluster.kubectl("delete", "namespace", "fleet", "--wait=true", "--timeout=30m")
        peer = Peer(bench.cluster, progress)
        peer.controller.warm_up()
        peer.roll_out(count, "1", "first rollout")
        peer.roll_out(count, "2", "update")
    progress.console.print(meter.table(f"{count} EdgeDeployments over {count} gateways", bench.meter.spent))
    progress.console.print(meter.table(f"{count} Rollouts of Argo Rollouts over the same gateways", peer.meter.spent))


def many_trainings(name: str, count: int, progress: Progress) -> None:
    """As many TrainingJobs as asked for, and then as many JobSets."""
    pods = workshop.PODS
    with progress.phase("A cluster with simulated nodes, the chart installed, the operator in a pod"):
        cluster = workshop.up(name, count, progress)
        operator = operator_pod.prepare(cluster, progress)
        ours = trainings.Trainings(cluster, operator, progress)
        operator.warm_up()
    with progress.phase(f"{count} TrainingJobs of {pods} pods"):
        trained = ours.train(count)
        ours.quiet(count)
        verified = ours.verify(count)
    operator.stop()
    with progress.phase(f"JobSet: {count} JobSets of {pods} pods, on the same API server"):
        cluster.kubectl("delete", "namespace", trainings.NAMESPACE, "--wait=true", "--timeout=30m")
        peer = JobSets(cluster, progress)
        peer.controller.warm_up()
        run = peer.run(count)
        peer.quiet(count)
    progress.console.print(meter.table(f"{count} TrainingJobs of {pods} pods", ours.meter.spent))
    progress.console.print(meter.table(f"{count} JobSets of {pods} pods", peer.meter.spent))
    columns = {"TrainingJob": trained, "of that verification": verified, "JobSet": run}
    progress.console.print(meter.requests_table("Requests", columns))


def main() -> int:
    """Entry point of ``python -m e2e.bench``."""
    parser = argparse.ArgumentParser(prog="e2e.bench", description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=PARTS)
    parser.add_argument("--name", default=f"{DEFAULT_NAME}-bench", help="cluster to make and take down")
    parser.add_argument("--gateways", type=int, default=200, help="simulated gateways of `requests`")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="gateways of `fleet` and `plans`, ascending"
    )
    parser.add_argument("--deployments", type=int, default=DEPLOYMENTS, help="deployments of `deployments`")
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs of `training`")
    options = parser.parse_args()
    # Piped, as into a log, the tables are as wide as they need.
    progress = Progress(None if sys.stdout.isatty() else Console(highlight=False, width=120))
    parts: dict[str, Callable[[], None]] = {
        "plans": lambda: plan_alone(options.sizes, progress),
        "requests": lambda: count_requests(options.name, options.gateways, progress),
        "fleet": lambda: grow_fleet(options.name, options.sizes, progress),
        "deployments": lambda: many_deployments(options.name, options.deployments, progress),
        "training": lambda: many_trainings(options.name, options.jobs, progress),
    }
    # Told to end, it takes its cluster along, as one that is interrupted does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for part, run in parts.items():
            if options.part in ("all", part):
                # Each part counts on a cluster that nothing else has used.
                try:
                    run()
                finally:
                    if part != "plans":
                        clusters.down(options.name, report=progress.say)
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        return progress.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
