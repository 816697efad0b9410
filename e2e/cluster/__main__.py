"""``python -m e2e.cluster up|down|status``: the local cluster from the command line."""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from e2e.cluster import choice, processes, state
from e2e.cluster.commands import ClusterError
from e2e.cluster.folders import DEFAULT_NAME, Folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        match asked.command:
            case "up":
                cluster = choice.up(asked.name, asked.gateways, asked.cluster)
                print(f"\nexport KUBECONFIG={cluster.kubeconfig}")
            case "down":
                for name in state.names() if asked.all else [asked.name]:
                    choice.down(name)
            case "status":
                return _status(asked.name)
    except (ClusterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A cluster to try modelfleet on.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring a cluster up, or take one that is up as it is")
    up.add_argument("--gateways", type=_count, default=0, metavar="N", help="simulated gateways (default: 0)")
    up.add_argument(
        "--cluster",
        choices=get_args(choice.Wish),
        default="auto",
        help="where it comes from; auto: KUBECONFIG if set, else own: kind where Docker answers, else local "
        "(default: auto)",
    )
    down = commands.add_parser("down", help="remove a cluster and all that it left")
    down.add_argument("--all", action="store_true", help="every cluster, whatever its name")
    status = commands.add_parser("status", help="show a cluster's parts; exits with 1 when it does not work")
    for command in (up, down, status):
        command.add_argument("--name", default=DEFAULT_NAME, help=f"the cluster's name (default: {DEFAULT_NAME})")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count <= 20000:
        raise argparse.ArgumentTypeError("must be from 0 to 20000")
    return count


def _status(name: str) -> int:
    folder = Folder(name)
    now = state.load(folder)
    if now is None:
        print(f"There is no cluster {name!r}. There are: {', '.join(state.names()) or 'none'}.")
        return 1
    own = processes.Processes(folder)
    print(f"{'PART':<26}{'PID':<10}{'STATE':<10}LOG")
    for part, alive in own.parts().items():
        pid = str(now.processes[part].pid) if alive else "-"
        print(f"{part:<26}{pid:<10}{'running' if alive else 'ended':<10}{own.log(part)}")
    whole = choice.is_whole(name)
    print(f"\nCluster {name!r} ({now.kind}): {'works' if whole else 'does NOT work'}")
    if whole:
        cluster = choice.connect(name)
        print(f"Simulated gateways: {len(cluster.gateways.names())}")
        print(f"Object store: {cluster.store.endpoint}{'' if cluster.store.answers() else ' (does not answer)'}")
        print(f"\nexport KUBECONFIG={cluster.kubeconfig}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
