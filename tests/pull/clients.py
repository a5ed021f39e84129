"""What people pull with, and what each has of an image that it has pulled.

Nothing is taken from what a client prints while it pulls: what it has stored is read and hashed. docker, podman and
buildah keep layers unpacked, so there the digests of the unpacked layers are compared. podman and buildah also note
down the digests of the layers as they were sent.
"""

import base64
import copy
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.container_tools import digest_of
from tests.local_stack import PATIENCE
from tests.pull.images import Image

# The user that goes with a token as its password.
USER = "AWS"


class Login(NamedTuple):
    """What a client logs in with, if anything."""

    # A folder with a config.json, which docker, podman, buildah and skopeo read.
    config: Path
    # The password, for containerd's ctr, which reads no file.
    password: str = ""

    @classmethod
    def none(cls, folder: Path):
        return cls.of(folder, {})

    @classmethod
    def at(cls, folder: Path, host: str, password: str):
        """With a password, for one registry."""
        pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return cls.of(folder, {"auths": {host: {"auth": pair}}}, password)

    @classmethod
    def of(cls, folder: Path, config: dict, password: str = ""):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        return cls(folder, password)


class Client:
    """A client with a storage of its own."""

    def __init__(self, environment: dict):
        self.environment = environment

    def told(self, settings: dict):
        """The same client with more in its environment."""
        other = copy.copy(self)
        other.environment = {**self.environment, **settings}
        return other

    def run(self, *command) -> subprocess.CompletedProcess:
        return subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )

    def lines(self, *command) -> list:
        """The lines that a command prints, which has to work."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command} exits with {done.returncode}: {done.stdout}"
        return done.stdout.split()


class Docker(Client):
    """docker, with dockerd. Its image is compared as `docker save` has it."""

    name = "docker"

    def __init__(self, environment: dict, folder: Path, socket: Path):
        super().__init__({**environment, "DOCKER_HOST": f"unix://{socket}"})
        self.saved = folder / "saved.tar"

    def pull(self, reference: str, platform: str, login: Login) -> subprocess.CompletedProcess:
        return self.run("docker", "--config", login.config, "pull", "--platform", platform, reference)

    def has(self) -> set:
        (image,) = set(self.lines("docker", "image", "ls", "--quiet", "--no-trunc"))
        (digests,) = self.lines("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image)
        self.lines("docker", "image", "save", "--output", self.saved, image)
        with tarfile.open(self.saved) as archive:
            (saved,) = json.load(archive.extractfile("manifest.json"))
            files = [archive.extractfile(name).read() for name in [saved["Config"], *saved["Layers"]]]
        return {each.split("@")[1] for each in json.loads(digests)} | {digest_of(file) for file in files}

    def wants(self, image: Image) -> set:
        return {image.tagged, image.config, *image.contents}

    def forget(self):
        self.lines("docker", "image", "prune", "--all", "--force")


class Ctr(Client):
    """containerd, with its own client. What containerd downloads is in its content store, as it was sent."""

    name = "ctr"

    def __init__(self, environment: dict, socket: Path):
        super().__init__(environment)
        self.ctr = ["ctr", "--address", socket]
        self.store = socket.parent / "containerd/io.containerd.content.v1.content/blobs/sha256"

    def pull(self, reference: str, platform: str, login: Login, *options) -> subprocess.CompletedProcess:
        user = ["--user", f"{USER}:{login.password}"] if login.password else []
        how = ["--plain-http", "--snapshotter", "native", "--platform", platform, *user, *options]
        return self.run(*self.ctr, "images", "pull", *how, reference)

    def has(self) -> set:
        contents = self.lines(*self.ctr, "content", "ls", "--quiet")
        return {digest_of((self.store / content.removeprefix("sha256:")).read_bytes()) for content in contents}

    def wants(self, image: Image) -> set:
        return {image.tagged, image.manifest, image.config, *image.layers}

    def forget(self):
        if images := self.lines(*self.ctr, "images", "ls", "--quiet"):
            self.lines(*self.ctr, "images", "rm", "--sync", *images)
        # What a pull that failed has left.
        if contents := self.lines(*self.ctr, "content", "ls", "--quiet"):
            self.lines(*self.ctr, "content", "rm", *contents)


class Podman(Client):
    """podman, and buildah, which keeps images in the same way."""

    name = "podman"

    def __init__(self, environment: dict, storage: Path, name: str):
        super().__init__(environment)
        self.name = name
        self.storage = storage

    def pull(self, reference: str, platform: str, login: Login) -> subprocess.CompletedProcess:
        authfile = ["--authfile", login.config / "config.json"]
        return self.run(self.name, "pull", "--tls-verify=false", "--platform", platform, *authfile, reference)

    def has(self) -> set:
        layers = json.loads((self.storage / "vfs-layers/layers.json").read_text())
        # The files that are empty are for signatures, of which there are none.
        files = [file.read_bytes() for file in self.storage.glob("vfs-images/*/*") if file.stat().st_size]
        return {digest_of(file) for file in files} | {
            layer[digest] for layer in layers for digest in ["compressed-diff-digest", "diff-digest"]
        }

    def wants(self, image: Image) -> set:
        return {image.tagged, image.manifest, image.config, *image.layers, *image.contents}

    def forget(self):
        self.lines(self.name, "rmi", "--all", "--force")


class Skopeo(Client):
    """skopeo, which copies an image into a folder: of an index, the image of one platform."""

    name = "skopeo"

    def __init__(self, environment: dict, folder: Path):
        super().__init__(environment)
        self.copy = folder / "copy"

    def pull(self, reference: str, platform: str, login: Login) -> subprocess.CompletedProcess:
        system, architecture = platform.split("/")
        how = ["--override-os", system, "--override-arch", architecture, "copy", "--src-tls-verify=false"]
        authfile = ["--authfile", login.config / "config.json"]
        return self.run("skopeo", *how, *authfile, f"docker://{reference}", f"dir:{self.copy}")

    def has(self) -> set:
        return {digest_of(file.read_bytes()) for file in self.copy.iterdir() if file.name != "version"}

    def wants(self, image: Image) -> set:
        return {image.manifest, image.config, *image.layers}

    def forget(self):
        shutil.rmtree(self.copy, ignore_errors=True)


def pulls(client: Client, image: Image, reference: str, login: Login, *options):
    """The client has what was published after a pull, and nothing else."""
    client.forget()
    done = client.pull(reference, image.platform, login, *options)
    assert done.returncode == 0, f"exits with {done.returncode}: {done.stdout}"
    has, wanted = client.has(), client.wants(image)
    assert has == wanted, f"has {has}, and not {wanted}"
