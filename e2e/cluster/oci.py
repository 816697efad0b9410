"""An OCI image archive from a single static program, without any image tool.

Enough for the pod sandbox and for the cluster's own tests; the product's images come from its Dockerfile.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What ``platform.machine()`` says, in the words of OCI and Kubernetes."""


def write_archive(path: Path, name: str, program: Path, command: Sequence[str], architecture: str) -> Path:
    """Write an OCI archive of an image ``name`` whose only file is ``/<program's name>``.

    The same input gives the same bytes. ``command`` is the entrypoint; it runs as user and group 65532.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    configuration = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": list(command), "User": "65532:65532", "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", configuration),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **_descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
                    "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
                    "platform": {"architecture": architecture, "os": "linux"},
                }
            ],
        }
    )
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, configuration, manifest)}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_tar(files, mode=0o644))
    return path


def images(archive: Path) -> dict[str, str]:
    """The names of the images in an OCI archive, each with the digest that its name stands for."""
    with tarfile.open(archive) as content:
        index = content.extractfile("index.json")
        manifests = json.load(index)["manifests"] if index else []
    found = {}
    for manifest in manifests:
        notes = manifest.get("annotations", {})
        name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
        if name:
            found[name] = manifest["digest"]
    return found


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
