"""The function in sam local: the events of events/, and the AWS CLI and boto3 against the local API.

`make test-sam` runs it, which first starts a container engine and a local stack with the images that the events
ask for.
"""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
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
    command = sam_local("invoke", "--event", str(event))
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
