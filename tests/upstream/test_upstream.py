"""`layergate publish docker://...` from docker-registry, the reference implementation, in each of its ways to answer.

It gives the bytes itself; or it redirects to an S3, which is the local stack's; or it wants a token; or it is reached by
TLS with a certificate of a private authority. Each case publishes an image from there into a local stack, pulls every
blob by its URL, and compares it with what was pushed to the registry, by skopeo.

Run it with `make test-upstream`. The tools come from Debian's packages, which takes root.
"""

import base64
import hashlib
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.container_tools import install
from tests.local_stack import (
    LAYERGATE,
    PATIENCE,
    LocalStack,
    ask,
    download,
    run,
    run_table,
    stop,
    temporary_folder,
)

TOOLS = ["curl", "docker-registry", "openssl", "skopeo"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"

# More than the 8 MiB up to which a blob is sent in one request.
LARGE = 20 * 1024 * 1024

USERNAME, PASSWORD, TOKEN = "alice", "pass:word", "the-token"


class Layout:
    """An OCI image layout with an index of two images, one of which has the name `single` too."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        # What each name consists of: the digests of manifests, and the sizes of blobs by digest.
        self.manifests = {"single": [], "index": []}
        self.sizes = {"single": {}, "index": {}}
        bytes_of = random.Random(0).randbytes
        shared = self.blob(TAR, bytes_of(LARGE))
        images = []
        for architecture in ["amd64", "arm64"]:
            layers = [shared, self.blob(TAR, bytes_of(1000))]
            config = {
                "architecture": architecture,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
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

    def blob(self, media_type: str, content: bytes) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


class Registry:
    """docker-registry on a port that the system picks, stopped when the `with` block ends."""

    def __init__(self, folder: Path, environment: dict, **settings):
        folder.mkdir(exist_ok=True)
        self.log, self.environment = folder / "registry.log", environment
        http = {"addr": "127.0.0.1:0", **settings.pop("http", {})}
        # JSON is YAML.
        (folder / "registry.yml").write_text(json.dumps({"version": 0.1, "http": http, **settings}))
        self.config = folder / "registry.yml"

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", self.config], stdout=log, stderr=log, env=self.environment
            )
        deadline = time.monotonic() + PATIENCE
        while not (listening := re.search(r"listening on (127\.0\.0\.1:\d+)", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the registry did not start:\n{self.log.read_text()}")
            select.select([], [], [], 0.05)
        self.host = listening[1]
        return self

    def __exit__(self, *_):
        stop(self.process)

    def asked(self) -> list[str]:
        """The requests so far, by its access log."""
        return re.findall(r'"((?:GET|HEAD) /v2/team/app/[^ "]*)', self.log.read_text())


class TokenServer(ThreadingHTTPServer):
    """Gives a token to whoever shows the right credentials, and keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), TokenRequest)
        self.scopes = []
        self.url = f"http://127.0.0.1:{self.server_port}/token"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


class TokenRequest(BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.server.scopes += query.get("scope", [])
        basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        is_right = self.headers["Authorization"] == f"Basic {basic}"
        body = json.dumps({"token": TOKEN} if is_right else {}).encode()
        self.send_response(200 if is_right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Case:
    """What all cases share: a registry's storage with the images in it, and a folder for each case."""

    def __init__(self, folder: Path, environment: dict):
        self.folder, self.environment = folder, environment
        self.layout = Layout(folder / "layout")
        self.storage = {"filesystem": {"rootdirectory": str(folder / "storage")}}
        with Registry(folder / "push", environment, storage=self.storage) as registry:
            for name in ["single", "index"]:
                run(
                    "skopeo copy -q --all --preserve-digests --dest-tls-verify=false"
                    f" oci:layout:{name} docker://{registry.host}/team/app:{name}",
                    folder,
                    environment,
                )

    def check(self, stack: LocalStack, registry: Registry, *options: str):
        """Publishes both images from a registry, twice, and pulls what was published."""
        for name, sizes in self.layout.sizes.items():
            source = f"docker://{registry.host}/team/app:{name}"
            published = stack.publish(source, f"images/app:{name}", *options)
            assert {layer["layerDigest"]: layer["layerSize"] for layer in published["layers"]} == sizes, published
            assert [*published["images"], published["imageDigest"]] == self.layout.manifests[name], published
            for digest, size in sizes.items():
                status, _, body = ask(stack.url, repositoryName="images/app", layerDigest=digest)
                assert status == 200, f"asked for {digest}: {status} {body}"
                assert download(json.loads(body)["downloadUrl"]) == (digest, size)

            again = stack.publish(f"docker://{registry.host}/team/app:{name}", f"images/app:{name}", *options)
            assert not any(layer["uploaded"] for layer in again["layers"]), again

    def bytes(self, folder: Path):
        with LocalStack(folder / "data") as stack, Registry(folder, self.environment, storage=self.storage) as registry:
            self.check(stack, registry)
            by_digest = f"docker://{registry.host}/team/app@{self.layout.manifests['single'][0]}"
            published = stack.publish(by_digest, "images/by-digest")
            assert published["imageDigest"] == self.layout.manifests["single"][0], published
            assert registry.asked(), "its access log was read"

            missing = stack.layergate("publish", f"docker://{registry.host}/team/app:missing", "images/app:missing")
            assert missing.returncode == 3 and "has no such image" in missing.stderr, missing
            unknown = stack.layergate("publish", f"docker://{registry.host}/team/other:1", "images/app:missing")
            assert unknown.returncode == 3 and "has no such image" in unknown.stderr, unknown

    def redirect(self, folder: Path):
        with LocalStack(folder / "data") as stack:
            # Not pushed there: docker-registry pushes in a way that the embedded S3 does not have.
            shutil.copytree(self.folder / "storage", folder / "data/s3/upstream")
            storage = {
                "s3": {
                    "bucket": "upstream",
                    "region": stack.environment["AWS_REGION"],
                    "regionendpoint": stack.environment["AWS_ENDPOINT_URL_S3"],
                    "accesskey": stack.environment["AWS_ACCESS_KEY_ID"],
                    "secretkey": stack.environment["AWS_SECRET_ACCESS_KEY"],
                }
            }
            with Registry(folder, self.environment, storage=storage) as registry:
                self.check(stack, registry)
                digest = next(iter(self.layout.sizes["single"]))
                path = f"http://{registry.host}/v2/team/app/blobs/{digest}"
                where = run(f"curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {path}", folder, os.environ)
                expected = f"307 {stack.environment['AWS_ENDPOINT_URL_S3']}/upstream/"
                assert where.startswith(expected) and "Signature=" in where, f"it does redirect: {where}"

    def token(self, folder: Path):
        with LocalStack(folder / "data") as stack, TokenServer() as tokens:
            auth = {"silly": {"realm": tokens.url, "service": "registry"}}
            with Registry(folder, self.environment, storage=self.storage, auth=auth) as registry:
                source = f"docker://{registry.host}/team/app:single"
                refused = stack.layergate("publish", "--create-repository", source, "images/app:single")
                assert refused.returncode == 3 and "docker login" in refused.stderr, refused
                auths = {registry.host: {"auth": base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()}}
                (folder / "auth.json").write_text(json.dumps({"auths": auths}))
                stack.environment["REGISTRY_AUTH_FILE"] = str(folder / "auth.json")
                self.check(stack, registry)
                assert set(tokens.scopes) == {"repository:team/app:pull"}, tokens.scopes
                said = refused.stderr + (folder / "data/log").read_text()
                assert PASSWORD not in said and TOKEN not in said, said

    def tls(self, folder: Path):
        folder.mkdir()
        run(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=authority -keyout ca.key -out ca.pem &&"
            " openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout key.pem -out request.pem &&"
            " echo subjectAltName=IP:127.0.0.1 > names && openssl x509 -req -days 1 -in request.pem -CA ca.pem"
            " -CAkey ca.key -CAcreateserial -extfile names -out certificate.pem",
            folder,
            os.environ,
        )
        tls = {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
        with (
            LocalStack(folder / "data") as stack,
            Registry(folder, self.environment, storage=self.storage, http={"tls": tls}) as registry,
        ):
            source = f"docker://{registry.host}/team/app:single"
            stranger = stack.layergate("publish", "--create-repository", "--plain-http=false", source, "images/app:1")
            assert stranger.returncode == 1 and "certificate" in stranger.stderr, stranger
            stack.environment["SSL_CERT_FILE"] = str(folder / "ca.pem")
            self.check(stack, registry, "--plain-http=false")


def main() -> int:
    if not Path(LAYERGATE).is_file():
        sys.exit(f"there is no {LAYERGATE}; make test-upstream builds it")
    install(TOOLS, TOOLS)
    with temporary_folder() as folder:
        (folder / "home").mkdir()
        # Nobody's own credentials and settings count.
        os.environ["HOME"] = str(folder / "home")
        for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"]:
            os.environ.pop(name, None)
        case = Case(folder, dict(os.environ))
        cases = [
            ("a registry that gives the bytes itself", case.bytes),
            ("a registry that redirects to presigned URLs of an S3", case.redirect),
            ("a registry that wants a token, for which the user's credentials are exchanged", case.token),
            ("a registry with a certificate of a private authority", case.tls),
        ]
        return run_table(
            (description, partial(check, folder / f"case-{number}"))
            for number, (description, check) in enumerate(cases)
        )


if __name__ == "__main__":
    sys.exit(main())
