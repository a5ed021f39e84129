"""dockerd and containerd, for one run: with all their data in a folder, and without touching the system's."""

import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.local_stack import PATIENCE, stop

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/containerd.sock"
# dockerd keeps manifests here too; they are no others' business.
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
"""


@contextmanager
def containerd(folder: Path):
    """A containerd; its socket."""
    folder.mkdir()
    (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
    with daemon(folder, "containerd", "--config", folder / "containerd.toml"):
        yield folder / "containerd.sock"


@contextmanager
def dockerd(folder: Path, containerd_socket: Path):
    """A dockerd that needs neither a network of its own nor a file system that can be layered; its socket."""
    folder.mkdir()
    options = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    sockets = ["--containerd", containerd_socket, "--host", f"unix://{folder}/docker.sock"]
    (folder / "daemon.json").write_text("{}")
    with daemon(folder, "dockerd", "--config-file", folder / "daemon.json", *options, *places, *sockets):
        yield folder / "docker.sock"


@contextmanager
def daemon(folder: Path, *command):
    """Runs a daemon that tells systemd when it is ready: nothing has to be tried until it works."""
    notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notifications.bind(str(folder / "notify.sock"))
    notifications.settimeout(PATIENCE)
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify.sock"), "HOME": str(folder)}
    with open(folder / "log", "ab") as log:
        # What it mounts, nobody else sees, and goes with it.
        process = subprocess.Popen(["unshare", "--mount", *command], stdout=log, stderr=log, env=environment)
    try:
        while b"READY=1" not in notifications.recv(4096):
            pass
        yield
    except TimeoutError:
        raise RuntimeError(f"{command[0]} did not start:\n{(folder / 'log').read_text()}")
    finally:
        stop(process)
        notifications.close()
