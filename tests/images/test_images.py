"""Images as skopeo, buildah, podman and umoci write them, published and pulled.

Each case makes a source with those tools, publishes it into a local stack of its own, asks for the URL of every
layer (the config included) as an ECR client does, downloads it with the URL alone and checks its digest. What an
image consists of is not taken from layergate but from skopeo, which copies it into a folder of plain files first.

Run it with `make test-images`. The tools come from Debian's packages, which takes root.
"""

import hashlib
import json
import random
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.container_tools import environment_in, install
from tests.local_stack import LAYERGATE, LocalStack, ask, download, run, run_table, temporary_folder

TOOLS = ["skopeo", "buildah", "podman", "umoci"]

# More than the 8 MiB up to which a blob is sent in one request; random, so that compressing keeps it so.
LARGE = 9 * 1024 * 1024

# The images that most cases start from. No instruction runs anything, so nothing has to run in them.
CONTAINERFILE = """
FROM scratch
ARG TARGETARCH
COPY hello-$TARGETARCH /bin/hello
COPY large /large
ENTRYPOINT ["/bin/hello"]
"""
IMAGES = """
buildah build -q --layers --arch amd64 --tag app .
buildah build -q --layers --arch amd64 --tag app-of-docker --format docker .
buildah build -q --layers --arch amd64 --tag other --label other=yes .
buildah build -q --layers --platform linux/amd64,linux/arm64 --manifest app-of-two-platforms .
"""

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"
ZSTD = f"{TAR}+zstd"
ENCRYPTED = f"{GZIP}+encrypted"


class Case(NamedTuple):
    """A source, and what becomes of it."""

    description: str
    # Makes the source, in a folder of its own.
    make: str
    # What is published.
    source: str
    # The same image as skopeo calls it.
    truth: str = ""
    # The name of the image in the source, for `publish --image`.
    image: str = ""
    # What makes the source special, so that a tool that ignores an option does not go unnoticed: the media type of
    # each layer (nothing where it does not matter), and how many images there are (more than one: in an index).
    layers: str = ""
    images: int = 1
    # For what is no image: what the refusal says, in part.
    refusal: str = ""


OCI_LAYOUTS = [
    Case(
        "buildah push: gzipped layers",
        "buildah push -q app oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=GZIP,
    ),
    Case(
        "buildah push: layers compressed with zstd",
        "buildah push -q --compression-format zstd app oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=ZSTD,
    ),
    Case(
        "buildah push: an image built in docker's format",
        "buildah push -q app-of-docker oci:layout:v1",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "buildah push: encrypted layers",
        "openssl genrsa -out key.pem 2048 && openssl rsa -in key.pem -pubout -out public.pem &&"
        " buildah push -q --encryption-key jwe:public.pem app oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=ENCRYPTED,
    ),
    Case(
        "buildah from scratch, copy, commit: nothing but one file",
        "container=$(buildah from scratch) && echo hello > hello && buildah copy -q $container hello / &&"
        " buildah commit -q --rm $container oci:layout:v1",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "podman save: a folder",
        "podman save -q --format oci-dir -o layout app",
        "layout",
        "oci:layout",
    ),
    Case(
        "skopeo copy: from the storage",
        "skopeo copy -q containers-storage:localhost/app oci:layout:v1",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "skopeo copy: zstd:chunked, which pullers read in pieces",
        "skopeo copy -q --dest-compress-format zstd:chunked containers-storage:localhost/app oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=ZSTD,
    ),
    Case(
        "skopeo copy: uncompressed layers",
        "skopeo copy -q --dest-oci-accept-uncompressed-layers containers-storage:localhost/app oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=TAR,
    ),
    Case(
        "skopeo copy: without a name",
        "skopeo copy -q containers-storage:localhost/app oci:layout",
        "layout",
        "oci:layout",
    ),
    Case(
        "skopeo copy: a name that has a registry, a slash and a colon in it",
        "skopeo copy -q containers-storage:localhost/app oci:layout:registry.example/team/app:v1",
        "layout",
        "oci:layout:registry.example/team/app:v1",
        image="registry.example/team/app:v1",
    ),
    Case(
        "skopeo copy: two names of one image need no choice",
        "skopeo copy -q containers-storage:localhost/app oci:layout:v1 &&"
        " skopeo copy -q oci:layout:v1 oci:layout:latest",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "skopeo copy: one of two images, by name",
        "skopeo copy -q containers-storage:localhost/app oci:layout:app &&"
        " skopeo copy -q containers-storage:localhost/other oci:layout:other",
        "layout",
        "oci:layout:other",
        image="other",
    ),
    Case(
        "skopeo copy: an image of one compressed tar file",
        "echo hello > hello && tar -czf hello.tar.gz hello && skopeo copy -q tarball:hello.tar.gz oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=GZIP,
    ),
    Case(
        "umoci new: a config and no layers",
        "umoci init --layout layout && umoci new --image layout:v1",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "umoci insert: files, a file taken away, a folder replaced",
        "umoci init --layout layout && umoci new --image layout:v1 && mkdir folder && echo hello > folder/hello &&"
        " umoci insert --image layout:v1 folder /etc/folder &&"
        " umoci insert --image layout:v1 --whiteout /etc/folder/hello &&"
        " umoci insert --image layout:v1 --opaque folder /etc/folder &&"
        " umoci config --image layout:v1 --config.cmd /etc/folder/hello",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "umoci insert: the same layer twice",
        "umoci init --layout layout && umoci new --image layout:v1 && echo hello > hello &&"
        " umoci insert --image layout:v1 hello /hello && umoci insert --image layout:v1 hello /hello",
        "layout",
        "oci:layout:v1",
    ),
    Case(
        "umoci raw add-layer: a layer that somebody else made",
        "umoci init --layout layout && umoci new --image layout:v1 && echo hello > hello &&"
        " tar -cf layer.tar hello && umoci raw add-layer --image layout:v1 layer.tar",
        "layout",
        "oci:layout:v1",
        layers=GZIP,
    ),
    Case(
        "umoci unpack, repack: buildah's image with a file more",
        "buildah push -q app oci:layout:v1 && umoci unpack --image layout:v1 bundle &&"
        " echo hello > bundle/rootfs/more && umoci repack --image layout:v2 bundle",
        "layout",
        "oci:layout:v2",
        image="v2",
    ),
    Case(
        "umoci gc: what a removed name leaves behind is gone, and not missed",
        "skopeo copy -q containers-storage:localhost/app oci:layout:v1 &&"
        " skopeo copy -q containers-storage:localhost/other oci:layout:v2 &&"
        " umoci rm --image layout:v1 && umoci gc --layout layout",
        "layout",
        "oci:layout:v2",
    ),
]

INDEXES = [
    Case(
        "buildah manifest push: an index of two platforms",
        "buildah manifest push -q --all app-of-two-platforms oci:layout:v1",
        "layout",
        "oci:layout:v1",
        images=2,
    ),
    Case(
        "buildah manifest push: the same, in an archive",
        "buildah manifest push -q --all app-of-two-platforms oci-archive:archive.tar:v1",
        "archive.tar",
        "oci-archive:archive.tar:v1",
        images=2,
    ),
    Case(
        "podman manifest push: an index of two images that were there before",
        "podman manifest create local && podman manifest add local containers-storage:localhost/app &&"
        " podman manifest add local containers-storage:localhost/other &&"
        " podman manifest push -q --all local oci:layout:v1",
        "layout",
        "oci:layout:v1",
        images=2,
    ),
    Case(
        "skopeo copy --all: an index with zstd layers",
        "buildah manifest push -q --all app-of-two-platforms oci:pushed:v1 &&"
        " skopeo copy -q --all --dest-compress-format zstd oci:pushed:v1 oci:layout:v1",
        "layout",
        "oci:layout:v1",
        layers=ZSTD,
        images=2,
    ),
    Case(
        "skopeo copy: the image of one platform out of an index",
        "buildah manifest push -q --all app-of-two-platforms oci:pushed:v1 &&"
        " skopeo --override-arch arm64 copy -q oci:pushed:v1 oci:layout:v1",
        "layout",
        "oci:layout:v1",
    ),
]

OCI_ARCHIVES = [
    Case(
        "buildah push: an archive",
        "buildah push -q app oci-archive:archive.tar:v1",
        "archive.tar",
        "oci-archive:archive.tar:v1",
    ),
    Case(
        "podman save: an archive",
        "podman save -q --format oci-archive -o archive.tar app",
        "archive.tar",
        "oci-archive:archive.tar",
    ),
    Case(
        "podman save: an archive with uncompressed layers",
        "podman save -q --format oci-archive --uncompressed -o archive.tar app",
        "archive.tar",
        "oci-archive:archive.tar",
        layers=TAR,
    ),
    Case(
        "skopeo copy: an archive with zstd layers",
        "skopeo copy -q --dest-compress-format zstd containers-storage:localhost/app oci-archive:archive.tar:v1",
        "archive.tar",
        "oci-archive:archive.tar:v1",
        layers=ZSTD,
    ),
    Case(
        "umoci, then tar: an archive whose names start with ./ and are long",
        "umoci init --layout layout && umoci new --image layout:v1 && echo hello > hello &&"
        " umoci insert --image layout:v1 hello /hello && tar --format=pax -C layout -cf archive.tar .",
        "archive.tar",
        "oci:layout:v1",
    ),
]

DOCKER_ARCHIVES = [
    Case(
        "podman save: docker's archive, its default",
        "podman save -q -o archive.tar app",
        "archive.tar",
        "docker-archive:archive.tar",
    ),
    Case(
        "podman save: docker's archive of an image built in docker's format",
        "podman save -q -o archive.tar app-of-docker",
        "archive.tar",
        "docker-archive:archive.tar",
    ),
    Case(
        "podman save: one of the images in docker's archive, by name",
        "podman save -q -m -o archive.tar app other",
        "archive.tar",
        "docker-archive:archive.tar:localhost/other:latest",
        image="localhost/other:latest",
    ),
    Case(
        "buildah push: docker's archive",
        "buildah push -q app docker-archive:archive.tar:app:v1",
        "archive.tar",
        "docker-archive:archive.tar:app:v1",
    ),
    Case(
        "skopeo copy: docker's archive without a name",
        "skopeo copy -q containers-storage:localhost/app docker-archive:archive.tar",
        "archive.tar",
        "docker-archive:archive.tar",
    ),
    Case(
        "skopeo copy: docker's archive with two names of one image",
        "skopeo copy -q --additional-tag localhost/app:v2 containers-storage:localhost/app"
        " docker-archive:archive.tar:localhost/app:v1",
        "archive.tar",
        "docker-archive:archive.tar:localhost/app:v2",
        image="localhost/app:v2",
    ),
    Case(
        "skopeo copy: an image of umoci's in docker's archive",
        "umoci init --layout layout && umoci new --image layout:v1 && echo hello > hello &&"
        " umoci insert --image layout:v1 hello /hello &&"
        " skopeo copy -q oci:layout:v1 docker-archive:archive.tar:hello:v1",
        "archive.tar",
        "docker-archive:archive.tar:hello:v1",
    ),
    Case(
        "skopeo copy, then tar: docker's archive unpacked into a folder",
        "skopeo copy -q containers-storage:localhost/app docker-archive:archive.tar &&"
        " mkdir folder && tar -C folder -xf archive.tar",
        "folder",
        "docker-archive:archive.tar",
    ),
]

REFUSED = [
    Case(
        "skopeo copy: two images and no choice",
        "skopeo copy -q containers-storage:localhost/app oci:layout:app &&"
        " skopeo copy -q containers-storage:localhost/other oci:layout:other",
        "layout",
        refusal="layout holds more than one image; choose one with --image: app, other",
    ),
    Case(
        "podman save: two images in docker's archive and no choice",
        "podman save -q -m -o archive.tar app other",
        "archive.tar",
        refusal="choose one with --image: localhost/app:latest, localhost/other:latest",
    ),
    Case(
        "podman save | gzip: a compressed archive",
        "podman save -q app -o archive.tar && gzip -1 --keep archive.tar",
        "archive.tar.gz",
        truth="docker-archive:archive.tar",
    ),
    Case(
        "skopeo copy --multi-arch index-only: an index without its images",
        "buildah manifest push -q --all app-of-two-platforms oci:pushed:v1 &&"
        " skopeo copy -q --multi-arch index-only oci:pushed:v1 oci:layout:v1",
        "layout",
        refusal="and none of its images (linux/",
    ),
    Case(
        "skopeo copy: blobs that are in a folder elsewhere",
        "mkdir blobs && skopeo copy -q --dest-shared-blob-dir blobs containers-storage:localhost/app oci:layout:v1",
        "layout",
        refusal="layout lacks the manifest sha256:",
    ),
    Case(
        "skopeo copy: a folder of skopeo's own form",
        "skopeo copy -q containers-storage:localhost/app dir:folder",
        "folder",
        refusal="folder",
    ),
    Case(
        "umoci init: a layout without an image",
        "umoci init --layout layout",
        "layout",
        refusal="index.json",
    ),
    Case(
        "umoci rm: nor with the last name removed",
        "umoci init --layout layout && umoci new --image layout:v1 && umoci rm --image layout:v1",
        "layout",
        refusal="index.json",
    ),
]


class Truth(NamedTuple):
    """What an image consists of, by skopeo's word."""

    # The digests of its manifests, the index's included.
    manifests: set
    # The sizes of its layers, configs included, by digest.
    sizes: dict
    # Their media types, by digest.
    media_types: dict
    # The digests of its configs.
    configs: set


def truth(case: Case, folder: Path, environment: dict) -> Truth:
    """Has skopeo copy the image into plain files, each blob named by its digest."""
    run(f"skopeo copy -q --all --preserve-digests {case.truth} dir:truth", folder, environment)
    copied = folder / "truth"
    manifests, sizes, media_types, configs = set(), {}, {}, set()
    for file in copied.glob("*manifest.json"):
        manifests.add(f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
        manifest = json.loads(file.read_text())
        if "config" not in manifest:
            continue  # an index
        configs.add(manifest["config"]["digest"])
        for descriptor in [manifest["config"], *manifest["layers"]]:
            digest = descriptor["digest"]
            sizes[digest] = (copied / digest.removeprefix("sha256:")).stat().st_size
            media_types[digest] = descriptor["mediaType"]
    wanted = Truth(manifests, sizes, media_types, configs)

    assert len(manifests) == (1 if case.images == 1 else case.images + 1), wanted
    if case.layers:
        assert {media_types[digest] for digest in sizes.keys() - configs} == {case.layers}, wanted
    return wanted


def check(case: Case, folder: Path, environment: dict):
    """Makes a case's source, publishes it and pulls it."""
    folder.mkdir()
    run(case.make, folder, environment)
    source = folder / case.source
    options = ["--image", case.image] if case.image else []
    with LocalStack(folder / "data") as stack:
        if case.refusal:
            done = stack.layergate("publish", "--create-repository", source, "images/app:v1", *options)
            assert done.returncode == 3, f"exits with {done.returncode}: {done.stdout}{done.stderr}"
            assert case.refusal in done.stderr, f"refuses with other words: {done.stderr}"
            assert done.stderr.count("\n") == 1, f"refuses in more than one line: {done.stderr}"
            return

        published = stack.publish(source, "images/app:v1", *options)
        wanted = truth(case, folder, environment)
        sizes = {layer["layerDigest"]: layer["layerSize"] for layer in published["layers"]}
        assert sizes == wanted.sizes, f"published {sizes}, and the image has {wanted.sizes}"
        assert all(layer["uploaded"] for layer in published["layers"]), published
        # Docker's archives hold no manifest: whoever reads one makes its own.
        if not case.truth.startswith("docker-archive:"):
            manifests = {published["imageDigest"], *published["images"]}
            assert manifests == wanted.manifests, f"{manifests} are not {wanted.manifests}"
            media_types = {layer["layerDigest"]: layer["mediaType"] for layer in published["layers"]}
            assert media_types == wanted.media_types, f"{media_types} are not {wanted.media_types}"

        for digest, size in wanted.sizes.items():
            status, _, body = ask(stack.url, repositoryName="images/app", layerDigest=digest)
            assert status == 200, f"asked for {digest}: {status} {body}"
            answer = json.loads(body)
            assert answer["layerDigest"] == digest, answer
            assert download(answer["downloadUrl"]) == (digest, size)
    # A few images of some megabytes in every form: what is done with makes room.
    shutil.rmtree(folder)


def prepare(folder: Path) -> dict:
    """Builds the images in a storage of their own; the environment in which the tools find it."""
    environment = environment_in(folder)
    context = folder / "context"
    context.mkdir()
    (context / "Containerfile").write_text(CONTAINERFILE)
    for architecture in ["amd64", "arm64"]:
        (context / f"hello-{architecture}").write_text(f"hello from {architecture}\n")
    (context / "large").write_bytes(random.Random(0).randbytes(LARGE))
    run(IMAGES, context, environment)
    return environment


def main() -> int:
    if not Path(LAYERGATE).is_file():
        sys.exit(f"there is no {LAYERGATE}; make test-images builds it")
    install(TOOLS, TOOLS)
    with temporary_folder() as folder:
        environment = prepare(folder)
        cases = [*OCI_LAYOUTS, *INDEXES, *OCI_ARCHIVES, *DOCKER_ARCHIVES, *REFUSED]
        return run_table(
            (case.description, partial(check, case, folder / f"case-{number}", environment))
            for number, case in enumerate(cases)
        )


if __name__ == "__main__":
    sys.exit(main())
