"""How this host reaches packages, lent to an image build as secrets: pip's and apt's settings, certificates.

Only settings about *reaching* are taken (mirrors, proxies, timeouts, trust); they never enter an image or the
repository.
"""

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.cluster.commands import run

_PIP_KEYS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_SYSTEM_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@contextmanager
def secrets() -> Iterator[dict[str, Path]]:
    """Files to pass as build secrets, by the id the Dockerfile mounts them under; gone when the build is over."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"apt": folder / "apt.conf", "pip": folder / "pip.conf"}
        files["apt"].write_text(_apt())
        certificates = _certificates()
        if certificates is not None:
            files["ca"] = folder / "ca.crt"
            shutil.copyfile(certificates, files["ca"])
        files["pip"].write_text(_pip(trusted=certificates is not None))
        yield files


def mmdebstrap_options(folder: Path) -> list[str]:
    """Options that make mmdebstrap use this host's apt settings and leave no trace of them in the root."""
    settings = folder / "apt.conf"
    settings.write_text(_apt())
    return [f"--aptopt={settings}", '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"']


def debian_mirror() -> list[str]:
    """The mirror that the environment variable ``DEBIAN_MIRROR`` names, if it is set; else Debian's own is used."""
    mirror = os.environ.get("DEBIAN_MIRROR")
    return [mirror] if mirror else []


def _apt() -> str:
    if shutil.which("apt-config") is None:
        return ""
    return "".join(
        f"{line}\n"
        for line in run("apt-config", "dump").splitlines()
        if line.startswith("Acquire::") and not line.endswith(' "";')
    )


def _pip(*, trusted: bool) -> str:
    settings: dict[str, str] = {}
    for path in (Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"):
        parser = configparser.RawConfigParser()
        parser.read(path)
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= dict(parser[section])
    settings |= {
        name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name.startswith("PIP_")
    }
    lines = [f"{key} = {value}" for key, value in settings.items() if key in _PIP_KEYS]
    if trusted:
        lines.append("cert = /run/secrets/ca.crt")
    return "\n".join(["[global]", *lines, ""])


def _certificates() -> Path | None:
    named = (Path(os.environ[variable]) for variable in _CERTIFICATES if os.environ.get(variable))
    return next((path for path in (*named, _SYSTEM_CERTIFICATES) if path.is_file()), None)
