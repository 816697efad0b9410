"""The project's images as OCI archives, built from its Dockerfile: ``python -m e2e.cluster.images build [target…]``.

Where a Docker engine answers it builds; elsewhere buildah does, as root and without any daemon, on a Debian base that
mmdebstrap makes. Archives are cached by the hash of what goes into them; the host's pip and apt settings are lent to
the build as secrets and reach neither an image nor the hash. Getting an archive into a cluster is the cluster's part.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import host, host_settings
from e2e.cluster.commands import ClusterError, Report, run, succeeds, timed_lines
from e2e.cluster.folders import CACHE

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TARGETS: Final = ("operator", "runtime", "train")
IMAGES: Final = CACHE / "images"
BUILDAH: Final = CACHE / "buildah"
BASE: Final = "docker.io/library/debian:trixie-slim"
"""The name that the Dockerfile's FROM uses."""

_LAYERS: Final = {"operator": ("operator",), "runtime": ("runtime",), "train": ("runtime", "train")}
"""The locks that the Dockerfile installs into each."""
_IN_PODS: Final = ("operator/modelfleet/__init__.py", "operator/modelfleet/api", "operator/modelfleet/runtime")
_INPUTS: Final = {
    "operator": ("operator/modelfleet",),
    "runtime": _IN_PODS,
    "train": (*_IN_PODS, "examples/defect-inspection"),
}
"""The sources that the Dockerfile copies into each."""
_FREE_GIB: Final = {"operator": (2, 1), "runtime": (2, 1), "train": (14, 7)}
"""What a first build and a later one take of the disk at their peak; PyTorch brings 5 GiB of CUDA libraries."""

_KEPT: Final = 2
"""Archives of each target: this checkout's, and another's that is worked on beside it."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the name a cluster knows it by, and its archive."""

    name: str
    archive: Path


def image_name(target: str) -> str:
    """Return an image's name. Its tag tells contents apart, but for ``train``, which the examples' manifests name."""
    tag = "dev" if target == "train" else f"dev-{content_hash(target)}"
    return f"docker.io/modelfleet/{target}:{tag}"


def build(targets: Iterable[str] = TARGETS, report: Report = print) -> dict[str, Image]:
    """Return the image of each target, building those whose inputs changed.

    ClusterError says why one cannot be built. Safe beside other builds on the same machine: they wait for each other.
    """
    with _alone():
        return {target: Image(image_name(target), _archive(target, report)) for target in targets}


def content_hash(target: str) -> str:
    """Return the hash of everything that goes into an image."""
    files = [REPOSITORY / "Dockerfile", REPOSITORY / ".dockerignore"]
    files += [REPOSITORY / "requirements" / f"{layer}.txt" for layer in _LAYERS[target]]
    for source in (REPOSITORY / name for name in _INPUTS[target]):
        files += sorted(source.rglob("*.py")) if source.is_dir() else [source]
    hasher = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        hasher.update(f"{path.relative_to(REPOSITORY)} {content}\n".encode())
    return hasher.hexdigest()[:16]


def clean() -> None:
    """Remove all archives, and the layers that buildah keeps."""
    with _alone():
        shutil.rmtree(IMAGES, ignore_errors=True)
        if BUILDAH.exists():
            run(*_buildah("rm", "--all"))
            run(*_buildah("rmi", "--all", "--force"))
            succeeds("umount", BUILDAH / "storage" / "overlay")
            shutil.rmtree(BUILDAH)


def _archive(target: str, report: Report) -> Path:
    archive = IMAGES / content_hash(target) / f"{target}.tar"
    if archive.exists():
        report(f"image {target}: cached")
        return archive
    _check_space(target)
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    if succeeds("docker", "info"):
        _docker(target, unfinished, report)
    else:
        _buildah_build(target, unfinished, report)
    unfinished.rename(archive)
    for old in sorted(IMAGES.glob(f"*/{target}.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink()
        if not any(old.parent.iterdir()):
            old.parent.rmdir()
    report(f"image {target}: {archive.stat().st_size / 2**20:.0f} MiB")
    return archive


def _docker(target: str, archive: Path, report: Report) -> None:
    with host_settings.secrets() as secrets:
        words = ["docker", "build", "--progress", "plain", "--target", target, "--tag", image_name(target)]
        _follow([*words, *_secret_options(secrets), str(REPOSITORY)], target, report, {"DOCKER_BUILDKIT": "1"})
    run("docker", "save", "--output", archive, image_name(target))


def _buildah_build(target: str, archive: Path, report: Report) -> None:
    host.check_for_images(report)
    with host_settings.secrets() as secrets:
        if not succeeds(*_buildah("inspect", "--type", "image", BASE)):
            _make_base(report)
        words = _buildah("bud", "--isolation", "chroot", "--pull-never", "--layers", "--force-rm")
        named = ["--target", target, "--tag", image_name(target)]
        _follow([*words, *named, *_secret_options(secrets), str(REPOSITORY)], target, report)
    report(f"image {target}: writing the archive")
    # zstd at its lowest level halves an archive at the speed of the disk; containerd reads it since 1.5.
    compression = ["--quiet", "--compression-format", "zstd", "--compression-level", "1"]
    run(*_buildah("push", *compression, image_name(target), f"oci-archive:{archive}:{image_name(target)}"))
    _forget_former(target)


def _forget_former(target: str) -> None:
    """Remove a target's former images and the layers that no image has any more: each is a few hundred MiB."""
    # What builds left that were killed: buildah removes no image that a container was made of.
    run(*_buildah("rm", "--all"))
    name = image_name(target)
    names = run(*_buildah("images", "--format", "{{.Name}}:{{.Tag}}", "--filter", f"reference={name.split(':')[0]}"))
    former = [each for each in names.split() if each != name]
    if former:
        run(*_buildah("rmi", *former))
    run(*_buildah("rmi", "--prune"))


def _make_base(report: Report) -> None:
    report("image base: Debian trixie by mmdebstrap")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        context = Path(folder)
        options = host_settings.mmdebstrap_options(context)
        run(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            *options,
            "trixie",
            context / "root.tar",
            *host_settings.debian_mirror(),
        )
        (context / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["bash"]\n')
        run(*_buildah("bud", "--isolation", "chroot", "--quiet", "--tag", BASE, str(context)))


def _buildah(*words: str) -> list[str]:
    # overlay: vfs would copy the whole root for every layer.
    place = ["--root", str(BUILDAH / "storage"), "--runroot", str(BUILDAH / "run"), "--storage-driver", "overlay"]
    # Builds get no network of their own (chroot), yet buildah wants netavark if it was there at some time before.
    configuration = BUILDAH / "containers.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text('[network]\nnetwork_backend = "cni"\n')
    return ["env", f"CONTAINERS_CONF={configuration}", "buildah", *place, *words]


def _secret_options(secrets: dict[str, Path]) -> list[str]:
    return [word for name, path in secrets.items() for word in ("--secret", f"id={name},src={path}")]


def _follow(words: list[str], target: str, report: Report, extra: dict[str, str] | None = None) -> None:
    """Run a build, reporting its steps; its last lines are in the error when it fails."""
    lines: list[str] = []
    environment = {**os.environ, **(extra or {})}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        lines = [*lines[-40:], line]
        if "STEP" in line or line.startswith(("Installing collected", "#")):
            report(f"image {target}: {line.strip()[:100]}")
    if process.wait() != 0:
        raise ClusterError(f"image {target} could not be built:\n{''.join(lines)}")


def _check_space(target: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    first, later = _FREE_GIB[target]
    needed = later if any(IMAGES.glob(f"*/{target}.tar")) else first
    free = shutil.disk_usage(CACHE).free / 2**30
    if free < needed:
        raise ClusterError(f"image {target} needs {needed} GiB at {CACHE}, {free:.0f} GiB are free")


@contextmanager
def _alone() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Command line: ``build [target…]`` prints the archives; ``clean`` removes everything."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster.images", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build").add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    verbs.add_parser("clean")
    options = parser.parse_args(arguments)
    if options.verb == "clean":
        clean()
        return 0
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))} (choose from {', '.join(TARGETS)})")
    try:
        images = build(options.targets or TARGETS, timed_lines(lambda line: print(line, file=sys.stderr)))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    for image in images.values():
        print(image.name, image.archive)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
