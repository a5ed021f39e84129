"""The function in sam local: the events of events/, and the AWS CLI, boto3 and skopeo against the local API.

`make test-sam` runs it, which first starts a container engine and a local stack with the images that the events
ask for.
"""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

import boto3
import pytest

ROOT = Path(__file__).parents[2]
# Without the one operation that asks S3, which listens where a container cannot reach it.
EVENTS = sorted(set(ROOT.glob("events/*/*.json")) - set(ROOT.glob("events/*/BatchGetImage.*.json")))
IMAGE = ROOT / "examples/hello-image/blobs/sha256"


def layers() -> list[str]:
    """The digests that the sample image's manifests reference, configs included."""
    manifests = [json.loads(blob.read_bytes()) for blob in IMAGE.iterdir() if blob.read_bytes()[:1] == b"{"]
    digests = set()
    for manifest in manifests:
        if "layers" in manifest:
            digests |= {blob["digest"] for blob in [manifest["config"], *manifest["layers"]]}
    return sorted(digests)


def digest_of_content(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return "sha256:" + hashlib.sha256(response.read()).hexdigest()


def sam_local(*arguments: str) -> list[str]:
    # The image is there: the engine was given it.
    return ["sam", "local", *arguments, "--skip-pull-image"]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.parent.name}/{event.stem}")
def test_event_has_the_outcome_that_it_is_named_after(event: Path) -> None:
    command = sam_local("invoke", "Function", "--event", str(event))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    response = json.loads(done.stdout)
    body = json.loads(response["body"])
    assert response["headers"]["content-type"] == "application/x-amz-json-1.1"
    # Before the outcome, the operation, if it is not GetDownloadUrlForLayer.
    outcome = event.stem.split(".")[-1]
    if outcome != "OK":
        assert body["__type"] == response["headers"]["x-amzn-errortype"] == outcome, done.stderr
        return
    assert response["statusCode"] == 200, done.stderr
    if event.stem == "OK":
        assert digest_of_content(body["downloadUrl"]) == body["layerDigest"]


def test_the_binary_finds_its_c_library_in_lambda() -> None:
    """Amazon Linux 2023 has glibc 2.34; a binary linked to a newer one does not start there."""
    binary = (ROOT / ".aws-sam/build/Function/bootstrap").read_bytes()
    needed = {tuple(map(int, version.split(b"."))) for version in re.findall(rb"\bGLIBC_([0-9.]+)\b", binary)}
    assert (2, 2) < max(needed) <= (2, 34)


@pytest.fixture(scope="module")
def api_url(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("start-api") / "log"
    # Its events have no caller.
    environment = os.environ | {"AUTHORIZATION": "gateway"}
    with log.open("w") as output:
        api = subprocess.Popen(
            sam_local("start-api", "--port", str(port)),
            cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert api.poll() is None and monotonic() < deadline, log.read_text()
            sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        api.send_signal(signal.SIGINT)
        try:
            api.wait(30)
        except subprocess.TimeoutExpired:
            api.kill()
            api.wait()


def aws_ecr(api_url: str, repository: str, digest: str) -> subprocess.CompletedProcess:
    command = ["aws", "ecr", "get-download-url-for-layer", "--endpoint-url", api_url]
    command += ["--repository-name", repository, "--layer-digest", digest, "--output", "json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("digest", layers())
def test_aws_cli_pulls_a_layer(api_url: str, digest: str) -> None:
    done = aws_ecr(api_url, "hello", digest)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["layerDigest"] == digest
    assert digest_of_content(answer["downloadUrl"]) == digest


# The errors that ECR's model has for the operation, but for a fault.
ERRORS = [
    ("A!", layers()[0], "InvalidParameterException"),
    ("nowhere", layers()[0], "RepositoryNotFoundException"),
    ("hello", f"sha256:{'0' * 64}", "LayersNotFoundException"),
    ("retired", layers()[0], "LayerInaccessibleException"),
]


@pytest.mark.parametrize(("repository", "digest", "error"), ERRORS)
def test_aws_cli_understands_an_error(api_url: str, repository: str, digest: str, error: str) -> None:
    done = aws_ecr(api_url, repository, digest)
    assert done.returncode != 0
    assert f"({error})" in done.stderr


@pytest.fixture(scope="module")
def boto3_ecr(api_url: str):
    return boto3.client("ecr", endpoint_url=api_url)


def test_boto3_pulls_a_layer(boto3_ecr) -> None:
    answer = boto3_ecr.get_download_url_for_layer(repositoryName="hello", layerDigest=layers()[0])
    assert digest_of_content(answer["downloadUrl"]) == answer["layerDigest"] == layers()[0]


@pytest.mark.parametrize(("repository", "digest", "error"), ERRORS)
def test_boto3_raises_its_own_exceptions(boto3_ecr, repository: str, digest: str, error: str) -> None:
    with pytest.raises(getattr(boto3_ecr.exceptions, error)) as raised:
        boto3_ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digest)
    assert raised.value.response["Error"]["Message"]


# ---- The registry


@pytest.fixture(scope="module")
def registry(api_url: str):
    """The registry's host. sam local makes no gateway responses, so the one with the challenge is made here."""
    api = urllib.parse.urlsplit(api_url)

    class WithChallenge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = http.client.HTTPConnection(api.hostname, api.port, timeout=60)
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            if answer.status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="layergate: log in as AWS"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), WithChallenge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # By name: on a redirect to another name, such as S3's 127.0.0.1, skopeo leaves its credentials behind.
    yield f"localhost:{server.server_port}"
    server.shutdown()


def test_a_registry_request_without_a_token_is_refused_by_the_gateway(api_url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{api_url}/v2/hello/tags/list", timeout=60)
    assert refused.value.code == 401


def test_skopeo_pulls_an_image_of_two_platforms(api_url: str, registry: str, tmp_path: Path) -> None:
    login = subprocess.run(
        ["layergate", "login"], env=os.environ | {"API_URL": api_url}, capture_output=True, text=True, timeout=60
    )
    assert login.returncode == 0, login.stderr
    copied = subprocess.run(
        [
            "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
            "--src-creds", f"AWS:{login.stdout.strip()}", f"docker://{registry}/hello:1.0", f"oci:{tmp_path}/pulled",
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr
    pulled = {blob.name for blob in (tmp_path / "pulled/blobs/sha256").iterdir()}
    assert pulled == {blob.name for blob in IMAGE.iterdir()}
