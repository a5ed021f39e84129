"""`layergate publish docker://...` from docker-registry, the reference implementation, in each of its ways to answer.

It gives the bytes itself; or it redirects to an S3, which is the local stack's; or it wants a token; or it is reached by
TLS with a certificate of a private authority. Each case publishes an image from there into a local stack, pulls every
blob by its URL, and compares it with what was pushed to the registry, by skopeo.

Run it with `make test-upstream`. The tools come from Debian's packages, which takes root.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

from tests.container_tools import install
from tests.local_stack import (
    LAYERGATE,
    LocalStack,
    ask,
    download,
    run,
    run_table,
    temporary_folder,
)
from tests.upstream.layout import Layout
from tests.upstream.registry import CREDENTIALS, PASSWORD, TOKEN, Registry, TokenServer, in_files, in_s3

TOOLS = ["curl", "docker-registry", "openssl", "skopeo"]


class Case:
    """What all cases share: a registry's storage with the images in it, and a folder for each case."""

    def __init__(self, folder: Path, environment: dict):
        self.folder, self.environment = folder, environment
        self.layout = Layout(folder / "layout")
        self.storage = in_files(folder / "storage")
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
            assert registry.asked("team/app"), "its access log was read"

            missing = stack.layergate("publish", f"docker://{registry.host}/team/app:missing", "images/app:missing")
            assert missing.returncode == 3 and "has no such image" in missing.stderr, missing
            unknown = stack.layergate("publish", f"docker://{registry.host}/team/other:1", "images/app:missing")
            assert unknown.returncode == 3 and "has no such image" in unknown.stderr, unknown

    def redirect(self, folder: Path):
        with LocalStack(folder / "data") as stack:
            storage = in_s3(self.folder / "storage", stack, stack.environment["AWS_ENDPOINT_URL_S3"])
            with Registry(folder, self.environment, storage=storage) as registry:
                self.check(stack, registry)
                digest = next(iter(self.layout.sizes["single"]))
                path = f"http://{registry.host}/v2/team/app/blobs/{digest}"
                where = run(f"curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {path}", folder, os.environ)
                expected = f"307 {stack.environment['AWS_ENDPOINT_URL_S3']}/upstream/"
                assert where.startswith(expected) and "Signature=" in where, f"it does redirect: {where}"

    def token(self, folder: Path):
        with LocalStack(folder / "data") as stack, TokenServer() as tokens:
            with Registry(folder, self.environment, storage=self.storage, auth=tokens.auth) as registry:
                source = f"docker://{registry.host}/team/app:single"
                refused = stack.layergate("publish", "--create-repository", source, "images/app:single")
                assert refused.returncode == 3 and "docker login" in refused.stderr, refused
                auths = {registry.host: {"auth": CREDENTIALS}}
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
