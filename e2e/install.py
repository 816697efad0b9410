"""``make install``: images built from this checkout, put on the cluster's nodes, and the chart installed by Helm.

The operator gets what a user's would: an ordinary pod, and the RBAC that the chart ships.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from e2e.cluster import choice as clusters
from e2e.cluster import images, programs
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import Report
from e2e.cluster.folders import DEFAULT_NAME
from e2e.helm import Helm
from e2e.progress import Progress

TARGETS = ("operator", "runtime")
"""The images that the operator itself needs; the demo adds ``train``."""


def helm(cluster: Cluster, report: Report = lambda _: None) -> Helm:
    """The real Helm, bound to the cluster."""
    return Helm(programs.find("helm", report), cluster.kubeconfig)


def load_images(cluster: Cluster, targets: Iterable[str], report: Report) -> dict[str, str]:
    """Build the images, or find them built, and import them into the cluster: their names by target."""
    built = images.build(targets, report)
    for image in built.values():
        report(f"image {image.name}: importing")
        cluster.import_image(image.archive)
    return {target: image.name for target, image in built.items()}


def values(names: dict[str, str], settings: Sequence[str] = ()) -> list[str]:
    """Helm's ``--set`` words for the images, by target, and for further ``settings`` (``name=value``)."""
    words = []
    for target in (each for each in TARGETS if each in names):
        repository, _, tag = names[target].rpartition(":")
        words += ["--set", f"{target}.image.repository={repository}", "--set-string", f"{target}.image.tag={tag}"]
    for setting in settings:
        words += ["--set", setting]
    return words


def install(cluster: Cluster, targets: Iterable[str], progress: Progress, settings: Sequence[str] = ()) -> None:
    """Build, import, install the chart or upgrade it, and wait until the operator is ready."""
    names = load_images(cluster, targets, progress.say)
    progress.say("helm upgrade --install modelfleet charts/modelfleet")
    helm(cluster, progress.say).install(*values(names, settings), "--wait", "--timeout=5m")
    for name in names.values():
        progress.keep(f"image {name}")
    progress.show(
        "kubectl get pods -n modelfleet-system",
        cluster.kubectl.within("modelfleet-system")("get", "pods", "--output=wide"),
    )


def main() -> int:
    """Entry point of ``python -m e2e.install``."""
    parser = argparse.ArgumentParser(prog="e2e.install", description=__doc__)
    parser.add_argument("--name", default=DEFAULT_NAME, help="cluster to install into")
    options = parser.parse_args()
    progress = Progress()
    try:
        with progress.phase("modelfleet, installed by Helm from charts/modelfleet"):
            install(clusters.connect(options.name), TARGETS, progress)
    except (OSError, RuntimeError, ValueError) as error:
        return progress.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
