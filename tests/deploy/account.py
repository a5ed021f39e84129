"""An AWS account on this machine, and the commands of docs/deploying.md run against it."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).parents[2]
TARGET = Path(os.environ.get("TARGET_DIR", ROOT / "target"))
DEFAULT = ROOT / "environments/default.toml"

# No step takes longer than a minute; what does hangs, and must not hang the run.
PATIENCE = 300


class Account:
    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        # The tool and the functions look at no endpoint but those of these services.
        services = ("DYNAMODB", "KMS", "LAMBDA", "S3", "SECRETS_MANAGER")
        self.engines = {f"AWS_ENDPOINT_URL_{service}": self.url for service in services}
        self.credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = kept | self.credentials | self.engines | {
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "DEPLOY_FLAGS": "--no-confirm-changeset",
            "PATH": f"{TARGET / 'debug'}:{ROOT / '.venv-sam/bin'}:{kept['PATH']}",
            "SAM_CLI_POLL_DELAY": "0.1",
        }  # fmt: skip
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            self.environment.pop(name, None)

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess:
        """Runs what a person would type in the checkout, and says yes to what is asked."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=ROOT, env=self.environment | variables, input="y\n" * 9, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip

    def works(self, command: str, **variables: str) -> str:
        """What a command prints that has to work."""
        done = self.run(command, **variables)
        assert done.returncode == 0, f"{command}\nexits with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def settings(self, **changes: str | int) -> Path:
        """An environment: the default one, but for the changes."""
        text = DEFAULT.read_text()
        for name, value in changes.items():
            line = f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
            text, found = re.subn(rf"^{name} = .*$", line, text, flags=re.MULTILINE)
            assert found == 1, name
        file = self.folder / "environment.toml"
        file.write_text(text)
        return file

    def make(self, target: str, *variables: str, **changes: str | int) -> subprocess.CompletedProcess:
        """Runs a target of the Makefile with what has been built already, and these changes of the environment."""
        file = self.settings(**changes)
        return self.run(f"make -o sam-build {target} ENVIRONMENT={file} {' '.join(variables)}")

    def deploy(self, *variables: str, **changes: str | int) -> str:
        done = self.make("deploy", *variables, **changes)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stderr


@contextmanager
def account(folder: Path) -> Iterator[Account]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Account(port, folder)
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy", str(port)],
            cwd=ROOT, env=found.environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert server.poll() is None and monotonic() < deadline, log.read_text()
            sleep(0.1)
        yield found
    finally:
        server.terminate()
        server.wait()


def documented(heading: str) -> list[str]:
    """The commands under a heading of docs/deploying.md, as blocks."""
    text = (ROOT / "docs/deploying.md").read_text()
    [section] = re.findall(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
