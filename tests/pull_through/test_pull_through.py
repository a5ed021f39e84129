"""Pulls through the local stack from docker-registry, the reference implementation, in each of its ways to answer.

docker, containerd, podman and skopeo pull what the stack does not have yet, and pull it again. What each then has
is compared with what was pushed to the upstream, and the upstream's access log tells what it was asked for. Then
upstreams are stopped, or refuse; then images are published beside a rule for everything. At last the logs are read: no
secret is in them.

Run it with `make test-pull-through`. The tools come from Debian's packages, which takes root.
"""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

from tests.container_tools import environment_in
from tests.local_stack import LAYERGATE, LocalStack, run_table, temporary_folder
from tests.pull.all_clients import all_clients, install_clients
from tests.pull.clients import Login, Skopeo, pulls
from tests.pull.images import sources
from tests.pull.logs import no_secret_in_logs
from tests.pull.refusals import WRONG_PASSWORD, Refusal, is_refused
from tests.pull_through.pulls import BY_DIGEST, FORMS, INSPECTED, UNPULLED, WHOLE, Pullers, layer_is_refused
from tests.pull_through.upstreams import (
    FOLDER,
    Storage,
    Upstream,
    create_rule,
    redirects,
    redirects_worker,
    secret,
    sends_bytes,
    wants_token,
)
from tests.upstream.registry import CREDENTIALS, PASSWORD, TOKEN


def sent(stack: LocalStack, folder: Path, storage: Storage, pullers: Pullers):
    """Pulls from a registry that sends the bytes itself, and then is stopped."""
    with sends_bytes(stack, folder, storage) as upstream:
        yield from pullers.first_and_second(upstream)
        yield from pullers.in_other_ways(upstream)
        inspects(pullers.skopeo, f"{upstream.reference(INSPECTED)}:1.0")
    yield from pullers.again(upstream, "while the upstream is down")
    reason = "the upstream registry cannot be reached or failed"
    image, layers = (f"{upstream.reference(repository)}:1.0" for repository in [UNPULLED, INSPECTED])
    status = "424 Failed Dependency"
    yield from pullers.refused("an image of an upstream that is down", image, reason, {"ctr": status})
    status = "invalid status code from registry 424 (Failed Dependency)"
    yield from pullers.refused(
        "layers of an upstream that is down", layers, reason, {"podman": status, "skopeo": status}
    )
    layer = pullers.pushed[INSPECTED].images()[0].layers[0]
    test = partial(layer_is_refused, upstream, INSPECTED, layer, reason)
    yield "the registry and ECR's API say that the upstream is down", test
    delete_rule(upstream)
    yield from pullers.again(upstream, "without the rule", ["single"])


def redirected(stack: LocalStack, folder: Path, storage: Storage, pullers: Pullers):
    """Pulls from a registry that redirects, to where the pullers are redirected too."""
    with redirects(stack, folder, storage) as upstream:
        yield from pullers.first_and_second(upstream)


def awaited(stack: LocalStack, folder: Path, storage: Storage, pullers: Pullers):
    """Pulls from a registry that redirects the worker. Nobody else goes there."""
    with redirects_worker(stack, folder, storage) as upstream:
        yield from pullers.first_and_second(upstream, ["single"])


def authorized(stack: LocalStack, folder: Path, storage: Storage, pullers: Pullers):
    """Pulls from a registry that wants a token; and what comes of rules without the right credentials for it."""
    with wants_token(stack, folder, storage) as upstream:
        yield from pullers.first_and_second(upstream)
        yield "the rule is valid", partial(validates, stack, upstream.prefix, None)
        refused = "the upstream registry refused access"
        wrong, missing = secret(stack, "wrong", WRONG_PASSWORD), secret(stack, "missing", None)
        rules = {
            "no-secret": ([], refused),
            "wrong-secret": (["--credential-arn", wrong], refused),
            "missing-secret": (["--credential-arn", missing], "the secret of the rule cannot be used"),
        }
        for prefix, (options, reason) in rules.items():
            create_rule(stack, prefix, upstream.registry, *options)
            reference = f"{upstream._replace(prefix=prefix).reference(UNPULLED)}:1.0"
            yield from pullers.refused(f"a rule with {prefix}", reference, reason, {"ctr": "403 Forbidden"})
            yield f"a rule with {prefix} is not valid", partial(validates, stack, prefix, reason)


def published(stack: LocalStack, folder: Path, storage: Storage, pullers: Pullers):
    """Pulls of what was published, beside a rule for everything."""
    with sends_bytes(stack, folder, storage, "ROOT") as upstream:
        images = []
        for source in sources(folder, storage.environment):
            source.publish(stack)
            images += source.images()
        for client in pullers.clients:
            for image in images:
                reference = f"{stack.host}/{image.repository}:1.0"
                test = partial(asks_nobody, upstream, partial(pulls, client, image, reference, pullers.login))
                yield f"{client.name}: {image.repository} for {image.platform}, published beside a rule for all", test
        skopeo, login, name = pullers.skopeo, pullers.login, f"{stack.host}/{UNPULLED}"
        image = pullers.pushed[UNPULLED].images()[0]
        yield "skopeo: from the upstream by the rule for all", partial(pulls, skopeo, image, f"{name}:1.0", login)
        sentence = f"The image with tag 'missing' does not exist within the repository with name '{UNPULLED}'"
        refusal = Refusal("", f"{name}:missing", login, sentence, {})
        yield "skopeo: refused for a tag that the upstream does not have", partial(is_refused, skopeo, refusal)


def asks_nobody(upstream: Upstream, pull: Callable):
    seen = upstream.seen()
    pull()
    assert upstream.seen() == seen, f"the upstream was asked: {upstream.seen()}, after {seen}"


def inspects(skopeo: Skopeo, reference: str):
    """skopeo gets a manifest, and nothing of what it names."""
    skopeo.lines("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}")


def validates(stack: LocalStack, prefix: str, reason: str | None):
    """The tool says what is wrong with a rule, if anything is."""
    done = stack.layergate("pull-through", "validate", prefix)
    said = json.loads(done.stdout)
    assert said["isValid"] == (done.returncode == 0) == (reason is None), done
    assert (reason or "") in said.get("failure", ""), done


def delete_rule(upstream: Upstream):
    done = upstream.stack.layergate("pull-through", "delete", upstream.prefix)
    assert done.returncode == 0, done.stderr


def no_secret_of_upstreams(stacks: list):
    for stack in stacks:
        assert '"fill"' in (stack.data / "log").read_text(), f"no worker has written to the log in {stack.data}"
    secrets = {
        "the upstream's password": PASSWORD,
        "the upstream's token": TOKEN,
        "the credentials for the upstream": CREDENTIALS,
    }
    no_secret_in_logs(stacks, secrets)


def main() -> int:
    if not Path(LAYERGATE).is_file():
        sys.exit(f"there is no {LAYERGATE}; make test-pull-through builds it")
    install_clients("docker-registry")
    with temporary_folder() as folder, ExitStack() as running:
        environment = environment_in(folder / "tools")
        # podman and buildah pull with the same code.
        docker, ctr, podman, _, skopeo = running.enter_context(all_clients(folder, environment))
        clients = [docker, ctr, podman, skopeo]
        storage = Storage(folder / "upstream", environment)
        forms = {f"{FOLDER}/{client.name}-{form}": form for client in clients for form in FORMS}
        others = {WHOLE: "index", **dict.fromkeys([BY_DIGEST, INSPECTED, UNPULLED], "single")}
        pushed = storage.push({**forms, **others})
        pullers = Pullers(clients, Login.none(folder / "login"), pushed)
        stacks, tables = [], []
        for table in [sent, redirected, awaited, authorized, published]:
            stacks.append(running.enter_context(LocalStack(folder / table.__name__)))
            tables.append(table(stacks[-1], folder / f"registry-{table.__name__}", storage, pullers))
        logs = ("no log has a token, a password or a signed URL", partial(no_secret_of_upstreams, stacks))
        # Each table starts its upstream, and stops it, when its rows are run.
        return run_table(chain(*tables, [logs]))


if __name__ == "__main__":
    sys.exit(main())
