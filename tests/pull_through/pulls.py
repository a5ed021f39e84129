"""Pulls of what has to come from an upstream first, and of what has come from there."""

import http.client
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.container_tools import digest_of
from tests.local_stack import PATIENCE
from tests.pull.all_clients import Clients
from tests.pull.clients import Login, Skopeo, pulls
from tests.pull.images import Source
from tests.pull.refusals import Refusal, is_refused
from tests.pull_through.upstreams import FOLDER, Upstream

FORMS = ["single", "index"]
# The repository of an index that is copied as a whole.
WHOLE = f"{FOLDER}/whole"


class Pullers(NamedTuple):
    """Who pulls, with what login, and what the upstreams have by the names of the repositories."""

    clients: Clients
    login: Login
    pushed: dict[str, Source]

    def images(self, upstream: Upstream):
        """The image that each client pulls of what it has for itself in the upstream: its repository, itself, its name."""
        for client in self.clients:
            for form in FORMS:
                source = self.pushed[f"{FOLDER}/{client.name}-{form}"]
                # Of an index, not the image that clients take by themselves.
                yield client, form, source.images()[-1], upstream.reference(source.repository)

    def first_and_second(self, upstream: Upstream):
        """The table of what is pulled twice: a single image, and one of an index; and once an index as a whole."""
        for client, form, image, name in self.images(upstream):
            blobs = {image.config, *image.layers}
            pull = partial(pulls, client, image, f"{name}:1.0", self.login)
            test = partial(first_and_second, upstream, image.repository, blobs, pull)
            yield f"{client.name}: {form} for {image.platform}, first and second pull", test
        source = self.pushed[WHOLE]
        blobs = {blob for image in source.images() for blob in [image.config, *image.layers]}
        pull = partial(copies_all, self.clients.skopeo, source, f"{upstream.reference(WHOLE)}:1.0")
        test = partial(first_and_second, upstream, WHOLE, blobs, pull)
        yield "skopeo: an index with all its images, first and second pull", test

    def again(self, upstream: Upstream, when: str):
        """The table of what is still there."""
        for client, form, image, name in self.images(upstream):
            for how, reference in {"tag": f"{name}:1.0", "digest": f"{name}@{image.tagged}"}.items():
                yield f"{client.name}: {form} by {how}, {when}", partial(pulls, client, image, reference, self.login)

    def refused(self, what: str, reference: str, sentence: str, otherwise: dict):
        """The table of one refusal: each client fails, and says why."""
        for client in self.clients:
            refusal = Refusal(what, reference, self.login, sentence, otherwise)
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
    connection = http.client.HTTPConnection(upstream.stack.host, timeout=PATIENCE)
    try:
        connection.request("HEAD", f"/v2/{upstream.prefix}/{repository}/blobs/{digest}")
        response = connection.getresponse()
        location = response.getheader("Location", "")
        store = upstream.stack.environment["AWS_ENDPOINT_URL_S3"]
        assert response.status == 307 and location.startswith(store), f"{response.status} {location}"
    finally:
        connection.close()


def copies_all(skopeo: Skopeo, source: Source, reference: str):
    """skopeo has everything that an index consists of."""
    skopeo.forget()
    done = skopeo.run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{reference}", f"dir:{skopeo.copy}")
    assert done.returncode == 0, f"exits with {done.returncode}: {done.stdout}"
    has, wanted = skopeo.has(), {digest_of(file.read_bytes()) for file in source.layout.glob("blobs/*/*")}
    assert has == wanted, f"has {has}, and not {wanted}"
