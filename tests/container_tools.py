"""What the tests with container tools share: how they are installed, what keeps them off the user's own data, and digests."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def install(commands: list, packages: list):
    """Gets the commands from Debian's packages, if any is missing. A package may have alternatives, divided by `|`."""
    if all(shutil.which(command) for command in commands):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"this needs {', '.join(commands)}; install them, or run it as root on Debian, which installs them")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], env=environment, **quiet)
    subprocess.run(["apt-get", "satisfy", "-qy", "--no-install-recommends", *packages], env=environment, **quiet)


def environment_in(folder: Path) -> dict:
    """The environment in which podman, buildah and skopeo have their storage and all their files in a folder."""
    for name in ["home", "tmp", "run"]:
        (folder / name).mkdir(parents=True)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
    )
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        "HOME": f"{folder}/home",
        "TMPDIR": f"{folder}/tmp",
        "XDG_RUNTIME_DIR": f"{folder}/run",
    }


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
