"""Images that another registry has: an OCI image layout, written byte by byte."""

import gzip
import io
import json
import random
import tarfile
from pathlib import Path

from tests.container_tools import digest_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# More than the 8 MiB up to which a blob is sent in one request.
LARGE = 9 * 1024 * 1024


class Layout:
    """An index of two images, one of which has the name `single` too. Each image has a layer of its own, and both have the
    large one. With another seed, there is no byte of the layers that another layout has."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        # What each name consists of: the digests of manifests, its own being the last, and the sizes of blobs by digest.
        self.manifests = {"single": [], "index": []}
        self.sizes = {"single": {}, "index": {}}
        bytes_of = random.Random(seed).randbytes
        shared = self.layer(bytes_of(LARGE))
        images = []
        for architecture in ["amd64", "arm64"]:
            layers, diff_ids = zip(shared, self.layer(bytes_of(1000)))
            config = {
                "architecture": architecture,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
            config = self.blob(CONFIG, json.dumps(config).encode())
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
            image = self.blob(MANIFEST, json.dumps(manifest).encode())
            platform = {"architecture": architecture, "os": "linux"}
            images.append({**image, "platform": platform})
            for name in ["single", "index"] if architecture == "amd64" else ["index"]:
                self.manifests[name].append(image["digest"])
                self.sizes[name] |= {blob["digest"]: blob["size"] for blob in [config, *layers]}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": images}
        index = self.blob(INDEX, json.dumps(index).encode())
        self.manifests["index"].append(index["digest"])
        named = {"single": images[0], "index": index}
        roots = [
            {**image, "annotations": {"org.opencontainers.image.ref.name": name}} for name, image in named.items()
        ]
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": roots}))

    def layer(self, content: bytes) -> tuple[dict, str]:
        """A layer with one file; and the digest of what is in it."""
        unpacked = io.BytesIO()
        with tarfile.open(fileobj=unpacked, mode="w") as archive:
            file = tarfile.TarInfo("file")
            file.size = len(content)
            archive.addfile(file, io.BytesIO(content))
        # Random bytes cannot be compressed.
        packed = gzip.compress(unpacked.getvalue(), compresslevel=0, mtime=0)
        return self.blob(LAYER, packed), digest_of(unpacked.getvalue())

    def blob(self, media_type: str, content: bytes) -> dict:
        digest = digest_of(content)
        (self.folder / "blobs" / digest.replace(":", "/")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}
