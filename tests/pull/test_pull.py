"""docker, containerd, podman, buildah and skopeo, unmodified, against the registry of the local stack.

Each pulls images of every form, with a login and without; what it then has is compared with what was published. Then
each is refused for every reason, and says why. Then each way to log in is gone. At last the logs are read: no secret is
in them.

Run it with `make test-pull`. The clients come from Debian's packages, which takes root, as do dockerd and containerd.
"""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.clients.install import install_python
from tests.container_tools import environment_in
from tests.local_stack import LAYERGATE, LocalStack, run_table, temporary_folder
from tests.pull import tokens
from tests.pull.all_clients import all_clients, install_clients
from tests.pull.clients import Client, Login, pulls
from tests.pull.images import Image, sources
from tests.pull.logins import logged_in
from tests.pull.logs import no_secret_in_logs
from tests.pull.refusals import refused

OUTSIDER = "111111111111"


def pulled(clients: list, images: list, logins: dict):
    """The table of what is pulled: each client, each image, by tag and by digest, with a login and without."""
    for client in clients:
        for with_login, (host, login) in logins.items():
            for image in images:
                what = f"{client.name}: {image.repository} for {image.platform}, {with_login}"
                name = f"{host}/{image.repository}"
                yield f"{what}, by tag", partial(pulls, client, image, f"{name}:1.0", login)
                yield f"{what}, by digest", partial(pulls, client, image, f"{name}@{image.tagged}", login)


def granted(client: Client, outside: LocalStack, image: Image, folder: Path):
    """What an outsider was refused is the grant's matter alone."""
    done = outside.layergate("repository", "grant", image.repository, OUTSIDER)
    assert done.returncode == 0, done.stderr
    login = Login.at(folder / "granted", outside.host, tokens.issued(outside))
    pulls(client, image, f"{outside.host}/{image.repository}:1.0", login)


def main() -> int:
    if not Path(LAYERGATE).is_file():
        sys.exit(f"there is no {LAYERGATE}; make test-pull builds it")
    install_clients()
    install_python()
    with temporary_folder() as folder, ExitStack() as running:
        environment = environment_in(folder / "tools")
        clients = running.enter_context(all_clients(folder, environment))
        docker, ctr, podman, buildah, skopeo = clients

        stack = running.enter_context(LocalStack(folder / "open"))
        with_login = running.enter_context(LocalStack(folder / "with-login", "--login"))
        outside = running.enter_context(LocalStack(folder / "outside", "--login", "--as", OUTSIDER))
        stacks = [stack, with_login, outside]
        published = sources(folder, environment)
        for source in published:
            for each in stacks:
                source.publish(each)
        single, images = published[0], [image for source in published for image in source.images()]
        logins = {
            "without login": (stack.host, Login.none(folder / "none")),
            "with login": (with_login.host, Login.at(folder / "own", with_login.host, tokens.issued(with_login))),
        }
        return run_table(
            [
                *pulled(clients, images, logins),
                *refused(clients, folder / "refused", with_login, outside, single),
                ("an outsider pulls what was granted", partial(granted, skopeo, outside, images[0], folder)),
                *logged_in(docker, ctr, podman, [buildah, skopeo], with_login, images[0], folder / "logged-in"),
                ("no log has a token, a password or a signed URL", partial(no_secret_in_logs, stacks, {})),
            ]
        )


if __name__ == "__main__":
    sys.exit(main())
