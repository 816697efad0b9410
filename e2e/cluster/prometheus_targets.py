"""Which pods Prometheus scrapes, kept current in a file: a program of its own, with nothing but the standard library.

``python prometheus_targets.py KUBECTL KUBECONFIG FILE`` follows the serving pods of all namespaces until it is ended.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REVISION = "modelfleet.dev/revision"
_NAME = "modelfleet.dev/edge-deployment"


def target(pod: dict[str, Any]) -> dict[str, Any] | None:
    """The scrape target of a pod, with the labels its series get; ``None`` for one without address or at its end."""
    metadata, address = pod["metadata"], pod.get("status", {}).get("podIP")
    ports = [port for each in pod["spec"]["containers"] for port in each.get("ports", []) if port.get("name") == "http"]
    if not address or not ports or pod["status"].get("phase") != "Running":
        return None
    labels = {
        "namespace": metadata["namespace"],
        "name": metadata["labels"][_NAME],
        "revision": metadata["labels"][_REVISION],
        "pod": metadata["name"],
    }
    return {"targets": [f"{address}:{ports[0]['containerPort']}"], "labels": labels}


def _events(kubectl: str, kubeconfig: str) -> Iterator[dict[str, Any]]:
    """Watch events, as kubectl prints them: one a line."""
    words = ["get", "pods", "--all-namespaces", f"--selector={_REVISION}", "--watch", "--output-watch-events"]
    with subprocess.Popen(
        [kubectl, "--kubeconfig", kubeconfig, *words, "--output=json"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)


def main(kubectl: str, kubeconfig: str, file: Path) -> None:
    """Follow the pods; a watch that ends is begun anew."""
    draft = file.with_suffix(".new")
    while True:
        pods: dict[str, dict[str, Any]] = {}
        for event in _events(kubectl, kubeconfig):
            pod = event["object"]
            if event["type"] == "DELETED":
                pods.pop(pod["metadata"]["uid"], None)
            else:
                pods[pod["metadata"]["uid"]] = pod
            draft.write_text(json.dumps([found for each in pods.values() if (found := target(each))], indent=1))
            draft.replace(file)
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
