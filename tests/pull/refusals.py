"""Pulls that are refused, for every reason there is, and what each client says then."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.local_stack import LocalStack
from tests.pull import tokens
from tests.pull.clients import Client, Login
from tests.pull.deletion import DeletesOnTheWay
from tests.pull.images import Source

REGISTRY = "000000000000"
OUTSIDER = "111111111111"
WRONG_PASSWORD = "correct-horse-battery-staple"


class Refusal(NamedTuple):
    """A pull that is refused."""

    description: str
    # What is pulled, and with what login.
    reference: str
    login: Login
    # What the registry says, and what those clients say that do not pass it on, by their names.
    sentence: str
    otherwise: dict


def reasons(folder: Path, stack: LocalStack, outside: LocalStack):
    """The table of reasons. To `outside`, calls come from an account that may read nothing."""
    image = f"{stack.host}/single:1.0"

    def login(name: str, password: str, host: str = stack.host) -> Login:
        return Login.at(folder / name, host, password)

    unauthorized = "The request has no valid authorization token. Log in and try again"
    yield Refusal(
        "no login",
        image,
        Login.none(folder / "no-login"),
        unauthorized,
        {"docker": "no basic auth credentials", "ctr": "401 Unauthorized"},
    )
    yield Refusal(
        "a wrong password",
        image,
        login("wrong", WRONG_PASSWORD),
        unauthorized,
        {"ctr": "401 Unauthorized"},
    )
    yield Refusal(
        "an expired token",
        image,
        login("expired", tokens.issued_ago(stack, tokens.LIFE)),
        "Your authorization token has expired. Reauthenticate and try again.",
        {"ctr": "403 Forbidden"},
    )
    yield Refusal(
        "a repository that is not granted",
        f"{outside.host}/single:1.0",
        login("outsider", tokens.issued(outside), outside.host),
        f"The caller is not authorized to read the repository with name 'single' in the registry with id '{REGISTRY}'",
        {"ctr": "403 Forbidden"},
    )
    yield Refusal(
        "a tag that there is not",
        f"{stack.host}/single:missing",
        login("missing-tag", tokens.issued(stack)),
        "The image with tag 'missing' does not exist within the repository with name 'single' in the registry with id"
        f" '{REGISTRY}'",
        {"ctr": "single:missing: not found"},
    )


def is_refused(client: Client, refusal: Refusal):
    """The client fails, and says why."""
    client.forget()
    done = client.pull(refusal.reference, "linux/amd64", refusal.login)
    words = refusal.otherwise.get(client.name, refusal.sentence)
    assert done.returncode != 0 and words in done.stdout, f"exits with {done.returncode}: {done.stdout}"


def loses_image(client: Client, folder: Path, outside: LocalStack, source: Source):
    """The client has an image's manifest when the image is deleted; then it gets none of the layers.

    The registry says why, and no client shows more of it than that the layer is not there. The caller is of another
    account: whoever may push also reads what no image references.
    """
    source._replace(repository="deleted").publish(outside)
    granted = outside.layergate("repository", "grant", "deleted", OUTSIDER)
    assert granted.returncode == 0, granted.stderr
    with DeletesOnTheWay(outside, "deleted:1.0") as proxy:
        login = Login.at(folder, proxy.host, tokens.issued(outside))
        otherwise = {"docker": "unknown blob", "ctr": "from remote: not found"}
        is_refused(client, Refusal("", f"{proxy.host}/deleted:1.0", login, "404 (Not Found)", otherwise))
    sentence = "is not associated with an image in the repository with name 'deleted'"
    assert any(sentence in answer for answer in proxy.answers), proxy.answers


def refused(clients: list, folder: Path, stack: LocalStack, outside: LocalStack, source: Source):
    """The table of refusals: every reason for each client."""
    folder.mkdir()
    rows = list(reasons(folder, stack, outside))
    for client in clients:
        for row in rows:
            yield f"{client.name}: refused for {row.description}", partial(is_refused, client, row)
        deletion = partial(loses_image, client, folder / client.name, outside, source)
        yield f"{client.name}: refused for a layer whose image was deleted", deletion
