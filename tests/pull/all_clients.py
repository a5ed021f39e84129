"""All the clients of the tests, ready to pull."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.container_tools import install
from tests.pull.clients import Ctr, Docker, Podman, Skopeo
from tests.pull.daemons import containerd, dockerd

COMMANDS = ["docker", "dockerd", "containerd", "ctr", "podman", "buildah", "skopeo"]
# docker's command has a package of its own since Debian 13.
PACKAGES = ["docker.io", "docker-cli | docker.io", "containerd", "podman", "buildah", "skopeo"]


class Clients(NamedTuple):
    """One of each."""

    docker: Docker
    ctr: Ctr
    podman: Podman
    buildah: Podman
    skopeo: Skopeo


def install_clients(*others: str):
    """Gets the clients, and other tools that are packages of their own, from Debian's packages. None of them will know the
    user's own settings."""
    install([*COMMANDS, *others], [*PACKAGES, *others])
    if os.geteuid() != 0:
        sys.exit("this needs root, because dockerd and containerd do")
    for name in [name for name in os.environ if name.startswith(("AWS_", "DOCKER_", "REGISTRY_"))]:
        del os.environ[name]


@contextmanager
def all_clients(folder: Path, environment: dict):
    """The clients, with the daemons that they need, and with their data in a folder."""
    with containerd(folder / "containerd") as socket, dockerd(folder / "dockerd", socket) as docker_socket:
        yield Clients(
            docker=Docker(environment, folder, docker_socket),
            ctr=Ctr(environment, socket),
            podman=Podman(environment, folder / "tools/storage", "podman"),
            buildah=Podman(environment, folder / "tools/storage", "buildah"),
            skopeo=Skopeo(environment, folder),
        )
