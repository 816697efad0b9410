"""The cluster's object store: a real S3 server over plain files.

An object ``models/a/b.onnx`` is the file ``<folder>/models/a/b.onnx``. The server stands beside the cluster, on an
address that its pods reach, so that it can be taken away for a while and given back.
"""

import socket
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import programs, state
from e2e.cluster.commands import ClusterError, Report, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.processes import Processes

BUCKET = "models"
REGION = "us-east-1"
PORT = 7070
PART = "store"


@dataclass(frozen=True)
class Store:
    """The object store of one cluster."""

    folder_of_cluster: Folder

    @property
    def endpoint(self) -> str:
        """Its URL, from the host and from pods."""
        return f"http://{self._state.store_address}:{PORT}"

    @property
    def access_key(self) -> str:
        """The id of the only key."""
        return self._state.access_key

    @property
    def secret_key(self) -> str:
        """The secret of the only key."""
        return self._state.secret_key

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return REGION

    @property
    def bucket(self) -> str:
        """The bucket that is there from the start."""
        return BUCKET

    @property
    def folder(self) -> Path:
        """The folder whose subfolders are the buckets."""
        return self.folder_of_cluster.store

    @property
    def credentials(self) -> dict[str, str]:
        """What a Secret for this store holds."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
        }

    def file(self, uri: str) -> Path:
        """The file behind ``s3://bucket/key``, to look at.

        Written in place it no longer fits the checksum that the server keeps beside it, and S3 clients notice: rot on
        the disk, not a forgery. See ``forge``.
        """
        scheme, _, path = uri.partition("://")
        if scheme != "s3":
            raise ValueError(f"{uri} is not in this store: its scheme is not s3")
        return self.folder / path

    def forge(self, uri: str, content: bytes) -> None:
        """Replace an object and its checksum, as somebody with the store's key would: only its digest tells."""
        target = self.file(uri)
        draft = target.with_name(f".{target.name}.forged")
        draft.write_bytes(content)
        draft.replace(target)

    def start(self, report: Report = lambda _: None) -> None:
        """Start the server, or start it again with what it held; returns when it answers."""
        processes = Processes(self.folder_of_cluster)
        if processes.alive(PART):
            return
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        address = f"{self._state.store_address}:{PORT}"
        processes.start(
            PART,
            [
                programs.find("versitygw", report),
                f"--port={address}",
                f"--region={REGION}",
                "--quiet",
                "--health=/health",
                "posix",
                self.folder,
            ],
            # In the environment, because anybody on the host may read command lines.
            environment={"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key},
        )
        wait_until(self.answers, "the object store to answer", 30, lambda: processes.expect(PART))
        processes.expect(PART)  # another server at that address would have answered too

    def stop(self) -> None:
        """Take the server away; its files stay."""
        Processes(self.folder_of_cluster).stop(PART)

    def answers(self) -> bool:
        """Whether the server answers at all."""
        try:
            with socket.create_connection((self._state.store_address, PORT), timeout=2):
                return True
        except OSError:
            return False

    @property
    def _state(self) -> state.State:
        now = state.load(self.folder_of_cluster)
        if now is None:
            raise ClusterError(f"there is no cluster {self.folder_of_cluster.name!r}")
        return now
