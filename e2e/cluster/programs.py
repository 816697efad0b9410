"""The programs a cluster is made of: found, or built from their published Go modules.

A prebuilt program wins: first in the folder that KUBEBUILDER_ASSETS names, then on the PATH, if its version fits ours.
Otherwise it is built into the cache, under a key of what it is built from, so that it is rebuilt when that changes.
"""

import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import toolchain
from e2e.cluster.commands import ClusterError, Report, run
from e2e.cluster.folders import CACHE
from e2e.cluster.state import locked

KUBERNETES_VERSION = "1.36.3"
SOURCES = Path(__file__).parent / "go"

_KUBERNETES_FLAGS = " ".join(
    f"-X {package}.{variable}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for variable, value in {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": KUBERNETES_VERSION.split(".")[0],
        "gitMinor": KUBERNETES_VERSION.split(".")[1],
        "gitCommit": f"v{KUBERNETES_VERSION}",
    }.items()
)

Version = tuple[int, int]


@dataclass(frozen=True)
class Program:
    """A program and what fits in its stead."""

    module: str
    """The folder below ``go/`` that it is built from."""
    package: str
    lowest: Version | None = None
    """The lowest (major, minor) of a prebuilt one that fits; ``None``: prebuilt ones are not looked for."""
    below: Version = (1000, 0)
    """The first (major, minor) that does not fit any more."""
    version_words: tuple[str, ...] = ("--version",)
    minutes: int = 1
    """About how long a first build takes on two cores, to be told beforehand."""
    tags: str = ""
    """Build tags, separated by commas."""


# No part may be newer than the API server, and a kubelet at most three minor versions older.
_API_SERVER = (1, 36)
_NEXT = (1, 37)

# Without what pilot does not use: validation code of Envoy's messages, and gRPC's tracing.
_PILOT_TAGS = "disable_pgv,grpcnotrace"

PROGRAMS: dict[str, Program] = {
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _API_SERVER, (1, 39), minutes=9),
    "kube-controller-manager": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", (1, 35), _NEXT, minutes=2
    ),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", (1, 35), _NEXT),
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet", (1, 34), _NEXT),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", (1, 34), _NEXT),
    "kubectl": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kubectl", (1, 33), (2, 0), version_words=("version", "--client")
    ),
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3", (3, 5), (4, 0)),
    "helm": Program(
        "helm", "helm.sh/helm/v3/cmd/helm", (3, 17), (4, 0), version_words=("version", "--short"), minutes=3
    ),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", (0, 7), (1, 0), minutes=3),
    "coredns": Program("coredns", "github.com/coredns/coredns", minutes=3),
    "versitygw": Program("versitygw", "github.com/versity/versitygw/cmd/versitygw", minutes=2),
    "fake-gcs-server": Program("fake-gcs-server", "github.com/fsouza/fake-gcs-server", minutes=3),
    "pilot-discovery": Program("istio", "istio.io/istio/pilot/cmd/pilot-discovery", minutes=14, tags=_PILOT_TAGS),
    "kueue": Program("kueue", "sigs.k8s.io/kueue/cmd/kueue", minutes=10),
    "rollouts-controller": Program(
        "argo-rollouts", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller", minutes=6
    ),
    "jobset": Program("jobset", "sigs.k8s.io/jobset", minutes=5),
    "pause": Program("pause", "."),
    "probe": Program("probe", "."),
}

_found: dict[str, Path] = {}


def find(name: str, report: Report) -> Path:
    """The program of that name, built first if need be; a build tells ``report`` how far it is."""
    if name not in _found:
        _found[name] = _prebuilt(name) or _built(name, report)
    return _found[name]


def provide(names: Iterable[str], report: Report) -> None:
    """Find or build all of these, before something is begun that would be left half made if one could not be had."""
    for name in names:
        find(name, report)


def version_fits(program: Program, printed: str) -> bool:
    """Whether what a program printed about itself names a version that fits."""
    found = re.search(r"v?(\d+)\.(\d+)\.\d+", printed)
    return (
        program.lowest is not None
        and found is not None
        and program.lowest <= (int(found[1]), int(found[2])) < program.below
    )


def build_key(name: str) -> str:
    """A hash of all that a build of the program depends on, the Go toolchain apart."""
    program = PROGRAMS[name]
    digest = hashlib.sha256()
    for path in sorted(path for path in (SOURCES / program.module).iterdir() if path.suffix in {".mod", ".sum", ".go"}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update((_linker_flags(program) + program.tags).encode())
    return f"{program.module}-{digest.hexdigest()[:12]}"


def cached(name: str) -> Path:
    """Where the built program lies, or will."""
    return CACHE / "bin" / build_key(name) / name


def _prebuilt(name: str) -> Path | None:
    program = PROGRAMS[name]
    if program.lowest is None:
        return None
    folders = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in filter(None, folders):
        found = shutil.which(name, path=folder)
        if found is None:
            continue
        try:
            printed = run(found, *program.version_words)
        except (ClusterError, OSError):
            continue
        if version_fits(program, printed):
            return Path(found)
    return None


def _built(name: str, report: Report) -> Path:
    target = cached(name)
    if target.exists():
        return target
    with locked(CACHE / "bin" / f".{name}.lock"):
        if not target.exists():  # another one may have built it while we waited for the lock
            _build(name, target, report)
    return target


def _build(name: str, target: Path, report: Report) -> None:
    program = PROGRAMS[name]
    go = toolchain.go(report)
    target.parent.mkdir(parents=True, exist_ok=True)
    report(f"{name}: building from Go modules, once (about {program.minutes} min on two cores)")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, _ticking(name, report):
        draft = Path(folder) / name
        run(
            # After whatever else the machine does: programs that are needed late are built beside the tests.
            *("nice", "-n", "10"),
            go,
            "build",
            "-trimpath",
            "-buildvcs=false",
            f"-tags={program.tags}",
            "-ldflags",
            _linker_flags(program),
            "-o",
            draft,
            program.package,
            environment={**os.environ, "CGO_ENABLED": "0"},
            folder=SOURCES / program.module,
        )
        draft.replace(target)


def _linker_flags(program: Program) -> str:
    return f"-s -w {_KUBERNETES_FLAGS}" if program.module == "kubernetes" else "-s -w"


@contextmanager
def _ticking(name: str, report: Report) -> Iterator[None]:
    """Report every half minute that a build goes on, and at its end how long it took."""
    began, ended = time.monotonic(), threading.Event()

    def tick() -> None:
        while not ended.wait(30):
            report(f"{name}: still building, {time.monotonic() - began:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
    report(f"{name}: built in {time.monotonic() - began:.0f} s")
