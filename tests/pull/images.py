"""The images that are pulled, and what each consists of, by its own files."""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

from tests.container_tools import digest_of
from tests.local_stack import ROOT, LocalStack, run

SAMPLE = ROOT / "examples/hello-image"
MANIFEST_OF_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


class Image(NamedTuple):
    """An image of one platform, in a repository. All but the first two are digests."""

    repository: str
    platform: str
    # What the tag names: the manifest, or the index that has it.
    tagged: str
    manifest: str
    config: str
    # The layers as they are sent, and as they are unpacked.
    layers: list
    contents: list


class Source(NamedTuple):
    """What is published as `repository:1.0`."""

    repository: str
    layout: Path
    # The digest of a manifest or of an index in the layout.
    root: str

    def publish(self, stack: LocalStack):
        published = stack.publish(self.layout, f"{self.repository}:1.0", "--image", self.root)
        assert published["imageDigest"] == self.root, published

    def images(self) -> list:
        """The images of all its platforms."""
        root = json.loads(self.blob(self.root))
        return [self.image(each["digest"]) for each in root.get("manifests", [{"digest": self.root}])]

    def image(self, digest: str) -> Image:
        manifest = json.loads(self.blob(digest))
        config = json.loads(self.blob(manifest["config"]["digest"]))
        layers = [layer["digest"] for layer in manifest["layers"]]
        return Image(
            repository=self.repository,
            platform=f"{config['os']}/{config['architecture']}",
            tagged=self.root,
            manifest=digest,
            config=manifest["config"]["digest"],
            layers=layers,
            contents=[digest_of(gzip.decompress(self.blob(layer))) for layer in layers],
        )

    def blob(self, digest: str) -> bytes:
        return (self.layout / "blobs" / digest.replace(":", "/")).read_bytes()


def sources(folder: Path, environment: dict) -> list:
    """An index, one of its images alone, and that as docker has it."""
    index = Source("index", SAMPLE, json.loads((SAMPLE / "index.json").read_text())["manifests"][0]["digest"])
    single = Source("single", SAMPLE, index.images()[0].manifest)
    return [single, index, docker_image(folder, environment)]


def docker_image(folder: Path, environment: dict) -> Source:
    """Has skopeo turn the sample into docker's format, and makes a layout of it, which skopeo does not."""
    run(
        f"skopeo --override-arch amd64 copy -q --format v2s2 oci:{SAMPLE}:1.0 dir:docker-image",
        folder,
        environment,
    )
    layout = folder / "docker-layout"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    for file in (folder / "docker-image").iterdir():
        (blobs / digest_of(file.read_bytes()).removeprefix("sha256:")).write_bytes(file.read_bytes())
    manifest = (folder / "docker-image/manifest.json").read_bytes()
    assert json.loads(manifest)["mediaType"] == MANIFEST_OF_DOCKER, manifest
    root = {"mediaType": MANIFEST_OF_DOCKER, "digest": digest_of(manifest), "size": len(manifest)}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    return Source("of-docker", layout, root["digest"])
