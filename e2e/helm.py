"""Helm as the demo and the tests use it: the real program, installing the chart as a user would."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "charts" / "modelfleet"
NAMESPACE = "modelfleet-system"
RELEASE = "modelfleet"


class HelmError(RuntimeError):
    """helm exited non-zero; the message is what it printed on stderr."""


@dataclass(frozen=True)
class Helm:
    """helm bound to a cluster and to the namespace of the release."""

    program: Path
    kubeconfig: Path
    namespace: str = NAMESPACE

    def __call__(self, *words: str) -> str:
        """Standard output of the call."""
        line = [str(self.program), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HelmError(done.stderr.strip() or f"helm {words[0]} exited with {done.returncode}")
        return done.stdout

    def install(self, *words: str) -> None:
        """Install the chart, or upgrade what is installed; ``words`` are helm's, such as ``--set``."""
        self("upgrade", RELEASE, str(CHART), "--install", "--create-namespace", *words)

    def template(self, *words: str) -> list[dict[str, Any]]:
        """The chart's objects, rendered for the oldest Kubernetes it supports; no cluster is asked."""
        text = self("template", RELEASE, str(CHART), "--kube-version=1.33.0", *words)
        return [obj for obj in yaml.safe_load_all(text) if obj]
