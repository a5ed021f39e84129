"""The registries that images come from: docker-registry in each of its ways to answer, and the rules for it."""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.local_stack import LocalStack, run
from tests.proxy import Proxy
from tests.pull.images import Source
from tests.upstream.layout import Layout
from tests.upstream.registry import PASSWORD, USERNAME, Registry, TokenServer, in_files, in_s3

# What the names of all repositories of the upstreams begin with.
FOLDER = "team"


class Storage:
    """The storage of a registry, with what was pushed there."""

    def __init__(self, folder: Path, environment: dict):
        self.folder, self.environment = folder, environment
        self.files = folder / "storage"
        self.count = 0

    def push(self, repositories: dict) -> dict:
        """Pushes an image for each of these repositories: `single`, or `index`. No two have a layer in common."""
        pushed = {}
        with Registry(self.folder / "push", self.environment, storage=in_files(self.files)) as registry:
            for repository, form in repositories.items():
                self.count += 1
                layout = Layout(self.folder / f"layout-{self.count}", seed=self.count)
                run(
                    "skopeo copy -q --all --preserve-digests --dest-tls-verify=false"
                    f" oci:{layout.folder}:{form} docker://{registry.host}/{repository}:1.0",
                    self.folder,
                    self.environment,
                )
                pushed[repository] = Source(repository, layout.folder, layout.manifests[form][-1])
        return pushed


class SlowStore(Proxy):
    """A server in front of an S3 that holds back a blob until it is asked for once more, or for some seconds.

    So a blob is on its way for long enough that its puller sees that.
    """

    def __init__(self, host: str, seconds: float):
        super().__init__(host)
        self.seconds = seconds
        self.downloads = Counter()
        self.changed = threading.Condition()

    def before_body(self, path: str, body: bytes):
        # The registry's own requests are signed in a header.
        if "X-Amz-Signature=" not in path:
            return
        # .../blobs/sha256/ab/abcd.../data
        digest = "sha256:" + path.split("?")[0].split("/")[-2]
        with self.changed:
            self.downloads[digest] += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.downloads[digest] > 1, self.seconds)


class Upstream(NamedTuple):
    """A running registry, with a rule for it."""

    # What it does when it is asked.
    description: str
    stack: LocalStack
    registry: Registry
    # What names begin with in the stack's registry.
    prefix: str
    # Where the registry redirects to, if it does, and how often it is asked there for a blob.
    store: SlowStore | None = None
    downloads: int = 0
    # What gives tokens for the registry, if it wants one.
    tokens: TokenServer | None = None

    def reference(self, repository: str) -> str:
        return f"{self.stack.host}/{self.prefix}/{repository}"

    def seen(self) -> tuple:
        """All that it has been asked so far."""
        return (
            self.registry.requests(),
            Counter(self.store.downloads) if self.store else Counter(),
            list(self.tokens.scopes) if self.tokens else [],
        )

    def blobs_asked(self, repository: str) -> Counter:
        """How often it was asked for each blob, by digest. To be told to come with a token does not count."""
        requests = self.registry.asked(repository)
        return Counter(path.rsplit("/", 1)[1] for path, status in requests if "/blobs/" in path and status != "401")


def create_rule(stack: LocalStack, prefix: str, registry: Registry, *options: str):
    done = stack.layergate("pull-through", "create", prefix, "--upstream", f"http://{registry.host}", *options)
    assert done.returncode == 0, done.stderr


def secret(stack: LocalStack, name: str, password: str | None) -> str:
    """Keeps a password as a secret, in ECR's form, if there is one; the secret's ARN."""
    if password:
        file = stack.data / "secrets/ecr-pullthroughcache" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"username": USERNAME, "accessToken": password}))
    return f"arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/{name}"


@contextmanager
def sends_bytes(stack: LocalStack, folder: Path, storage: Storage, prefix: str = "files"):
    """A registry that sends the bytes itself."""
    with Registry(folder, storage.environment, storage=in_files(storage.files)) as registry:
        create_rule(stack, prefix, registry)
        yield Upstream("sends bytes", stack, registry, prefix)


@contextmanager
def redirects(stack: LocalStack, folder: Path, storage: Storage):
    """A registry that redirects to an S3, for a rule that lets pullers go there."""
    # More than it takes the worker to say where, and the puller to look.
    with in_slow_store(stack, folder, storage, seconds=15) as (registry, store):
        create_rule(stack, "s3", registry)
        yield Upstream("redirects pullers too", stack, registry, "s3", store, downloads=2)


@contextmanager
def redirects_worker(stack: LocalStack, folder: Path, storage: Storage):
    """A registry that redirects to an S3, for a rule that has pullers wait."""
    # More than it takes a puller to look a few times.
    with in_slow_store(stack, folder, storage, seconds=0.6) as (registry, store):
        create_rule(stack, "s3", registry, "--before-stored", "wait")
        yield Upstream("redirects the worker alone", stack, registry, "s3", store, downloads=1)


@contextmanager
def in_slow_store(stack: LocalStack, folder: Path, storage: Storage, seconds: float):
    with SlowStore(stack.environment["AWS_ENDPOINT_URL_S3"].removeprefix("http://"), seconds) as store:
        in_store = in_s3(storage.files, stack, f"http://{store.host}")
        with Registry(folder, storage.environment, storage=in_store) as registry:
            yield registry, store


@contextmanager
def wants_token(stack: LocalStack, folder: Path, storage: Storage):
    """A registry that wants a token."""
    with TokenServer() as tokens:
        files = in_files(storage.files)
        with Registry(folder, storage.environment, storage=files, auth=tokens.auth) as registry:
            create_rule(stack, "private", registry, "--credential-arn", secret(stack, "right", PASSWORD))
            yield Upstream("wants a token", stack, registry, "private", tokens=tokens)
