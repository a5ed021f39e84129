"""docker-registry, the reference implementation, and what it needs for each of its ways to answer."""

import base64
import json
import re
import select
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path

from tests.http_server import Handler, Server
from tests.local_stack import PATIENCE, LocalStack, stop

USERNAME, PASSWORD, TOKEN = "alice", "pass:word", "the-token"
# As they are in the header of a request.
CREDENTIALS = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()


class Registry:
    """docker-registry on a port that the system picks, stopped when the `with` block ends."""

    def __init__(self, folder: Path, environment: dict, **settings):
        folder.mkdir(parents=True, exist_ok=True)
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

    def requests(self) -> list[tuple]:
        """The requests so far, by its access log: the path and the answer's status of each."""
        return re.findall(r'"(?:GET|HEAD) (/v2/[^ "]*) [^"]*" (\d+)', self.log.read_text())

    def asked(self, repository: str) -> list[tuple]:
        """Those that were about a repository."""
        return [(path, status) for path, status in self.requests() if path.startswith(f"/v2/{repository}/")]


def in_files(folder: Path) -> dict:
    """The setting for a storage in a folder: the registry sends the bytes itself."""
    return {"filesystem": {"rootdirectory": str(folder)}}


def in_s3(folder: Path, stack: LocalStack, endpoint: str) -> dict:
    """The setting for the same storage in a stack's S3, which the registry knows by `endpoint`: it redirects there.

    Not pushed there: docker-registry pushes in a way that the embedded S3 does not have.
    """
    shutil.copytree(folder, stack.data / "s3/upstream")
    return {
        "s3": {
            "bucket": "upstream",
            "region": stack.environment["AWS_REGION"],
            "regionendpoint": endpoint,
            "accesskey": stack.environment["AWS_ACCESS_KEY_ID"],
            "secretkey": stack.environment["AWS_SECRET_ACCESS_KEY"],
        }
    }


class TokenServer(Server):
    """Gives a token to whoever shows the right credentials, and keeps what it was asked."""

    def __init__(self):
        super().__init__(TokenRequest)
        self.scopes = []
        # The registry's setting. It takes any token.
        self.auth = {"silly": {"realm": f"http://{self.host}/token", "service": "registry"}}


class TokenRequest(Handler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.server.scopes += query.get("scope", [])
        is_right = self.headers["Authorization"] == f"Basic {CREDENTIALS}"
        body = json.dumps({"token": TOKEN} if is_right else {}).encode()
        self.answer_headers(200 if is_right else 401, [("Content-Length", str(len(body)))])
        self.wfile.write(body)
