"""What the host must bring along for a local cluster and its images: rights, and packages of its distribution.

On Debian and Ubuntu, as root, missing packages are installed; elsewhere an error names them.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.commands import ClusterError, Report, run
from e2e.cluster.folders import CACHE

NETWORK_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Where distributions put the CNI plugins."""

_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Programs of the host and the Debian packages that carry them."""

_IMAGE_PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "gpg": "gpg"}
"""The same, for building images where no Docker engine answers."""

_ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""What mmdebstrap checks Debian's signatures with; Ubuntu does not have it from the start."""

# Another installation may be under way: a machine's own at its first boot, or that of another cluster.
_PATIENT = ("--option=DPkg::Lock::Timeout=600", "--quiet")

_SHADOWED = ("/run", "/var/lib", "/var/log")


def check(report: Report) -> None:
    """Make sure that a local cluster can be made here; raises ``ClusterError`` that says what is missing."""
    if os.geteuid() != 0:
        raise ClusterError(
            "a local cluster needs root (it makes a network namespace and runs containers); "
            "without it, install Docker and kind, or set KUBECONFIG to a cluster of yours"
        )
    if any(CACHE.is_relative_to(folder) for folder in _SHADOWED):
        raise ClusterError(
            f"{CACHE} lies in a folder that the node has its own of ({', '.join(_SHADOWED)}): set HOME elsewhere"
        )
    missing = _missing(_PACKAGES)
    if network_plugins() is None:
        missing.add("containernetworking-plugins")
    _install(missing, report)


def check_for_images(report: Report) -> None:
    """Make sure that images can be built here without a Docker engine; raises ``ClusterError`` likewise."""
    if os.geteuid() != 0:
        raise ClusterError("no Docker engine answers, and buildah needs root here: start Docker, or run as root")
    missing = _missing(_IMAGE_PACKAGES)
    if not _ARCHIVE_KEYRING.exists():
        missing.add("debian-archive-keyring")
    _install(missing, report)


def network_plugins() -> Path | None:
    """The folder of the CNI plugins."""
    return next((folder for folder in NETWORK_PLUGINS if (folder / "ptp").exists()), None)


def download(package: str, folder: Path) -> Path:
    """The archive of a Debian package in that folder, checked by apt and not installed; raises ``ClusterError``."""
    if shutil.which("apt-get") is None:
        raise ClusterError(f"please install {package} (this host has no apt-get to fetch Debian's)")
    run("apt-get", *_PATIENT, "update")
    # A user of its own does apt's downloads, who may not write here.
    run("apt-get", *_PATIENT, "--option=APT::Sandbox::User=root", "download", package, folder=folder)
    (archive,) = folder.glob(f"{package}_*.deb")
    return archive


def _missing(packages: Mapping[str, str]) -> set[str]:
    """The packages whose programs are not there."""
    return {package for program, package in packages.items() if shutil.which(program) is None}


def _install(missing: set[str], report: Report) -> None:
    if not missing:
        return
    packages = sorted(missing)
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"please install what these Debian packages carry: {' '.join(packages)} (this host has no apt-get to do it)"
        )
    report(f"host: installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", *_PATIENT, "update", environment=environment)
    # Debian's containerd would start a service of its own; only its programs are wanted here.
    run(
        "apt-get",
        *_PATIENT,
        "install",
        "--yes",
        "--no-install-recommends",
        *packages,
        environment={**environment, "RUNLEVEL": "1"},
    )
