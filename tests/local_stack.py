"""What the tests written in Python share: a running local stack, an ECR client's request, and a table of cases."""

import hashlib
import http.client
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where cargo builds into, as the Makefile asks it.
TARGET = Path(os.environ.get("TARGET_DIR", ROOT / "target"))
LAYERGATE = str(TARGET / "debug/layergate")

# No single step takes longer than a few seconds; what does hangs, and must not hang the run.
PATIENCE = 60


class LocalStack:
    """`layergate local` on ports that the system picks, stopped when the `with` block ends."""

    def __init__(self, data: Path, *options: str):
        self.data = data
        self.options = options

    def __enter__(self):
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = open(self.data / "log", "ab")
        self.process = subprocess.Popen(
            [LAYERGATE, "local", "--data", self.data, "--port", "0", *self.options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "NO_COLOR": "1"},
        )
        # The first line says that it listens.
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        if not ready or not self.process.stdout.readline():
            self.__exit__()
            raise RuntimeError(f"the local stack did not start:\n{(self.data / 'log').read_text()}")
        self.environment = {**os.environ, **exports(self.data / "local.env")}
        self.url = self.environment["AWS_ENDPOINT_URL_ECR"]
        # As image references name its registry.
        self.host = urllib.parse.urlsplit(self.url).netloc
        return self

    def __exit__(self, *_):
        stop(self.process)
        self.process.stdout.close()
        self.log.close()

    def layergate(self, *arguments) -> subprocess.CompletedProcess:
        """Runs the tool against this stack, whatever comes of it."""
        command = [LAYERGATE, "--output", "json", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE
        )

    def publish(self, *arguments) -> dict:
        """Publishes an image; says what the tool says."""
        done = self.layergate("publish", "--create-repository", *arguments)
        assert done.returncode == 0, f"publish exits with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)


def stop(process: subprocess.Popen):
    """Ends a process, and kills it if it does not."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exports(file: Path) -> dict:
    """The variables that a file of `export` lines sets, as a shell would read them."""
    lines = [shlex.split(line) for line in file.read_text().splitlines()]
    return dict(line[1].split("=", 1) for line in lines if line[0] == "export")


def ask(url: str, **members) -> tuple[int, dict, bytes]:
    """Asks for a layer's URL as an ECR client does: status, headers by lower-case name, body."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
    try:
        connection.request(
            "POST",
            address.path or "/",
            json.dumps(members),
            {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer",
            },
        )
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def download(url: str) -> tuple[str, int]:
    """Gets what is behind a URL with nothing but the URL: its digest and its size."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
    try:
        connection.request("GET", f"{address.path}?{address.query}")
        response = connection.getresponse()
        assert response.status == 200, f"the URL answers {response.status}: {response.read()}"
        hasher, size = hashlib.sha256(), 0
        while chunk := response.read(1 << 20):
            hasher.update(chunk)
            size += len(chunk)
        return f"sha256:{hasher.hexdigest()}", size
    finally:
        connection.close()


@contextmanager
def temporary_folder():
    """A folder that goes away however the run ends, and with it whatever was started in a `with` block inside."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="layergate-test-") as folder:
        yield Path(folder)


def run_table(cases) -> int:
    """Runs every (description, test) of a table, a line each; the exit status."""
    passed = failed = 0
    for description, test in cases:
        started = time.monotonic()
        try:
            test()
        except Exception:
            failed += 1
            print(f"FAILED {description}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok     {description} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def run(command: str, folder: Path, environment: dict) -> str:
    """Runs a shell line that has to work; what it prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{command}\nexits with {done.returncode}:\n{done.stdout}"
    return done.stdout
