"""Pulls of what has to come from an upstream first, and of what has come from there."""

import http.client
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.container_tools import digest_of
from tests.local_stack import PATIENCE, ask
from tests.pull.clients import Client, Login, Skopeo, pulls
from tests.pull.images import Source
from tests.pull.refusals import Refusal, is_refused
from tests.pull_through.upstreams import FOLDER, Upstream

# What the registry says before the reason.
UPSTREAM = "There was an issue getting this from the upstream registry of the pull-through cache rule"

FORMS = ["single", "index"]
# Repositories of the upstreams that are not for one client: of the first, an index is copied as a whole; of the second, the
# first pull is by digest; of the third, clients get the manifest and nothing else; of the last, nothing.
WHOLE, BY_DIGEST, INSPECTED, UNPULLED = (f"{FOLDER}/{name}" for name in ["whole", "by-digest", "inspected", "unpulled"])


class Pullers(NamedTuple):
    """Who pulls, with what login, and what the upstreams have by the names of the repositories."""

    clients: list[Client]
    login: Login
    pushed: dict[str, Source]

    @property
    def skopeo(self) -> Skopeo:
        return self.clients[-1]

    def images(self, upstream: Upstream, forms: list):
        """The image that each client pulls of what it has for itself in the upstream: its form, itself, its name."""
        for client in self.clients:
            for form in forms:
                source = self.pushed[f"{FOLDER}/{client.name}-{form}"]
                # Of an index, not the image that clients take by themselves.
                yield client, form, source.images()[-1], upstream.reference(source.repository)

    def first_and_second(self, upstream: Upstream, forms: list = FORMS):
        """The table of what is pulled twice."""
        for client, form, image, name in self.images(upstream, forms):
            blobs = {image.config, *image.layers}
            pull = partial(pulls, client, image, f"{name}:1.0", self.login)
            test = partial(first_and_second, upstream, image.repository, blobs, pull)
            what = f"{form} for {image.platform} from a registry that {upstream.description}"
            yield f"{client.name}: {what}, first and second pull", test

    def in_other_ways(self, upstream: Upstream):
        """The table of what only one client pulls twice."""
        image = self.pushed[BY_DIGEST].images()[0]
        reference = f"{upstream.reference(BY_DIGEST)}@{image.tagged}"
        pull = partial(pulls, self.skopeo, image, reference, self.login)
        test = partial(first_and_second, upstream, BY_DIGEST, {image.config, *image.layers}, pull)
        yield "skopeo: by digest, first and second pull", test
        source = self.pushed[WHOLE]
        blobs = {blob for image in source.images() for blob in [image.config, *image.layers]}
        pull = partial(copies_all, self.skopeo, source, f"{upstream.reference(WHOLE)}:1.0")
        test = partial(first_and_second, upstream, WHOLE, blobs, pull)
        yield "skopeo: an index with all its images, first and second pull", test

    def again(self, upstream: Upstream, when: str, forms: list = FORMS):
        """The table of what is still there."""
        for client, form, image, name in self.images(upstream, forms):
            for how, reference in {"tag": f"{name}:1.0", "digest": f"{name}@{image.tagged}"}.items():
                yield f"{client.name}: {form} by {how}, {when}", partial(pulls, client, image, reference, self.login)

    def refused(self, what: str, reference: str, reason: str, otherwise: dict):
        """The table of one reason why the upstream does not give it: each client fails, and says why."""
        for client in self.clients:
            refusal = Refusal(what, reference, self.login, f"{UPSTREAM}: {reason}", otherwise)
            yield f"{client.name}: refused for {what}", partial(is_refused, client, refusal)


def first_and_second(upstream: Upstream, repository: str, blobs: set, pull: Callable):
    """The first pull asks the upstream for each of the blobs once, and for no other. The second one asks it for nothing."""
    assert not upstream.registry.asked(repository), "somebody was here before"
    pull()
    asked = upstream.blobs_asked(repository)
    assert asked == Counter(blobs), f"the upstream was asked for {asked}, and not for {blobs}"
    for digest in blobs:
        wait_until_stored(upstream, repository, digest)
    if upstream.store:
        downloads = {upstream.store.downloads[digest] for digest in blobs}
        assert downloads == {upstream.downloads}, f"each blob was downloaded {downloads} times"
    seen = upstream.seen()
    pull()
    assert upstream.seen() == seen, f"the second pull has asked the upstream: {upstream.seen()}, after {seen}"


def wait_until_stored(upstream: Upstream, repository: str, digest: str):
    """The registry does not answer HEAD before it can send the puller to its own store."""
    status, headers, _ = requested(upstream, "HEAD", repository, digest)
    store = upstream.stack.environment["AWS_ENDPOINT_URL_S3"]
    assert status == 307 and headers["Location"].startswith(store), f"{status} {headers}"


def layer_is_refused(upstream: Upstream, repository: str, digest: str, reason: str):
    """The registry says why the upstream does not give a layer, and so does the ECR operation."""
    status, _, body = requested(upstream, "GET", repository, digest)
    (error,) = json.loads(body)["errors"]
    assert (status, error["message"]) == (424, f"{UPSTREAM}: {reason}"), f"{status} {body}"
    name = f"{upstream.prefix}/{repository}"
    status, _, body = ask(upstream.stack.url, repositoryName=name, layerDigest=digest)
    error = json.loads(body)
    assert (status, error["__type"]) == (400, "UnableToGetUpstreamLayerException"), f"{status} {body}"
    assert reason in error["message"], error


def requested(upstream: Upstream, method: str, repository: str, digest: str) -> tuple:
    """The registry's answer to a request for a blob: status, headers, body."""
    connection = http.client.HTTPConnection(upstream.stack.host, timeout=PATIENCE)
    try:
        connection.request(method, f"/v2/{upstream.prefix}/{repository}/blobs/{digest}")
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def copies_all(skopeo: Skopeo, source: Source, reference: str):
    """skopeo has everything that an index consists of."""
    skopeo.forget()
    done = skopeo.run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{reference}", f"dir:{skopeo.copy}")
    assert done.returncode == 0, f"exits with {done.returncode}: {done.stdout}"
    has, wanted = skopeo.has(), {digest_of(file.read_bytes()) for file in source.layout.glob("blobs/*/*")}
    assert has == wanted, f"has {has}, and not {wanted}"
