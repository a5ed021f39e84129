"""Clients that people have, unmodified, against the local stack: what each makes of every answer.

The AWS CLI, boto3 and the SDK for JavaScript call through a wire that notes each request, and can answer in the
stack's place. So the tests see what is signed, and how often a client asks. The other clients sign as API Gateway
wants it: the CLI and boto3 with the service model in clients/, and the examples in JavaScript and Rust.

Run it with `make test-clients`. It installs the pinned versions of requirements.txt and package.json into .clients.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

from tests.clients.install import AWS, HERE, INSTALLED, PYTHON, install_once, install_python
from tests.clients.wire import SERVER_FAULT, THROTTLED, Wire, error_answer
from tests.local_stack import LAYERGATE, PATIENCE, ROOT, TARGET, LocalStack, ask, download, run_table, temporary_folder

JAVASCRIPT = INSTALLED / "javascript"
EXECUTE_API = str(TARGET / "debug/examples/execute_api")

SAMPLE = ROOT / "examples/hello-image"
# Of the sample; in the repository `app` an image references it, in `deleted` none does any more.
LAYER = "sha256:abd571529ee041da3b30e9ce413f689f2b8b061a45f476ed0d333203b51041b1"
UNKNOWN = f"sha256:{'0' * 64}"
INDEX = "sha256:988a40ebf42bd43888c81442623d1ca441156e90a1db103e2fb16616e012334a"
REGISTRY = "000000000000"
OUTSIDER = "111111111111"

# The clients make one retry, as told by their own setting; how they wait before it is theirs.
ATTEMPTS = 2


class Outcome(NamedTuple):
    """What a client made of an answer."""

    url: str = ""
    digest: str = ""
    # The exception's class, and the code and message in it.
    type: str = ""
    code: str = ""
    message: str = ""
    request_id: str = ""
    # The whole answer, if it is not an exception.
    answer: dict = {}


class Client(NamedTuple):
    """A client, as its user has it."""

    name: str
    # Makes a call: endpoint (none: from the environment), operation, members, environment.
    call: Callable
    # The service that it signs for.
    signs_for: str
    # The class of exceptions that its model does not have; nothing for a command, which has no exceptions.
    generic: str
    # The exceptions that its model has.
    modelled: set


def command_line(service: str, endpoint: str, operation: str, members: dict, environment=None) -> Outcome:
    """Calls with the AWS CLI."""
    command = [AWS, service, kebab(operation), "--output", "json"]
    if endpoint:
        command += ["--endpoint-url", endpoint]
    if all(isinstance(value, str) for value in members.values()):
        for name, value in members.items():
            command += [f"--{kebab(name)}", value]
    else:
        # One page, where the CLI would put all of them together.
        command += ["--cli-input-json", json.dumps(members), "--no-paginate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode == 0:
        return succeeded(json.loads(done.stdout))
    error = re.fullmatch(
        rf"\s*(?:aws: \[ERROR\]: )?An error occurred \((\w+)\) when calling the {operation} operation"
        r"(?: \(reached max retries: \d+\))?: (.*?)\s*",
        done.stderr,
        re.DOTALL,
    )
    assert error and done.returncode == 255, f"exits with {done.returncode}: {done.stderr}"
    return Outcome(code=error[1], message=error[2])


def example_in_rust(endpoint: str, operation: str, members: dict, environment=None) -> Outcome:
    """Calls with the SDK for Rust, as its example shows it."""
    command = [EXECUTE_API, endpoint, members["repositoryName"], members["layerDigest"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode == 0:
        return Outcome(url=done.stdout.strip())
    code, message = done.stderr.strip().split(": ", 1)
    return Outcome(code=code, message=message)


def script(*command) -> Callable:
    """Calls with a small program that says as JSON what came of it."""

    def call(endpoint: str, operation: str, members: dict, environment=None) -> Outcome:
        arguments = [*command, endpoint, operation, json.dumps(members)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        if "code" not in answer:
            return succeeded(answer)
        return Outcome(
            type=answer["type"],
            code=answer["code"],
            message=answer["message"],
            request_id=answer["requestId"],
        )

    return call


def succeeded(answer: dict) -> Outcome:
    return Outcome(url=answer.get("downloadUrl", ""), digest=answer.get("layerDigest", ""), answer=answer)


def kebab(name: str) -> str:
    return re.sub("(?<!^)([A-Z])", r"-\1", name).lower()


BOTO3 = [PYTHON, HERE / "ecr_boto3.py"]
ECR_ERRORS = {
    "ImageNotFoundException",
    "InvalidParameterException",
    "LayerInaccessibleException",
    "LayersNotFoundException",
    "RepositoryNotFoundException",
    "ServerException",
}
OUR_ERRORS = ECR_ERRORS | {"AccessDeniedException", "ThrottlingException"}
CLIENTS = [
    Client("AWS CLI", partial(command_line, "ecr"), "ecr", "", set()),
    Client("boto3", script(*BOTO3, "ecr"), "ecr", "ClientError", ECR_ERRORS),
    Client(
        "JavaScript",
        script("node", "--no-warnings", JAVASCRIPT / "ecr_javascript.mjs"),
        "ecr",
        "ECRServiceException",
        ECR_ERRORS,
    ),
    Client("AWS CLI with our model", partial(command_line, "layergate"), "execute-api", "", set()),
    Client("boto3 with our model", script(*BOTO3, "layergate"), "execute-api", "ClientError", OUR_ERRORS),
    Client("Rust, examples/execute_api", example_in_rust, "execute-api", "", set()),
]


class Row(NamedTuple):
    """A call that the stack refuses."""

    description: str
    code: str
    message: str
    members: dict
    operation: str = "GetDownloadUrlForLayer"


INVALID = "Invalid parameter at '{}' failed to satisfy constraint: 'must satisfy regular expression '{}''"
REFUSALS = [
    Row(
        "a repository name with a capital",
        "InvalidParameterException",
        INVALID.format(
            "repositoryName", r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
        ),
        {"repositoryName": "App", "layerDigest": LAYER},
    ),
    Row(
        "a digest that is none",
        "InvalidParameterException",
        INVALID.format("layerDigest", "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+"),
        {"repositoryName": "app", "layerDigest": "latest"},
    ),
    Row(
        "a registry that is no account",
        "InvalidParameterException",
        INVALID.format("registryId", "[0-9]{12}"),
        {"registryId": "12", "repositoryName": "app", "layerDigest": LAYER},
    ),
    Row(
        "a repository that there is not",
        "RepositoryNotFoundException",
        f"The repository with name 'other' does not exist in the registry with id '{REGISTRY}'",
        {"repositoryName": "other", "layerDigest": LAYER},
    ),
    Row(
        "a layer that there is not",
        "LayersNotFoundException",
        f"The layer with digest '{UNKNOWN}' does not exist within the repository with name 'app' in the registry"
        f" with id '{REGISTRY}'",
        {"repositoryName": "app", "layerDigest": UNKNOWN},
    ),
    Row(
        "a layer whose image was deleted",
        "LayerInaccessibleException",
        f"The layer with digest '{LAYER}' in the repository with name 'deleted' in the registry with id '{REGISTRY}'"
        " is not associated with an image",
        {"repositoryName": "deleted", "layerDigest": LAYER},
    ),
    Row(
        "somebody else's registry",
        "AccessDeniedException",
        f"User: arn:aws:iam::{REGISTRY}:user/local is not authorized to perform: ecr:GetDownloadUrlForLayer on"
        " resource: arn:aws:ecr:us-east-1:222222222222:repository/app because no resource-based policy allows the"
        " ecr:GetDownloadUrlForLayer action",
        {"registryId": "222222222222", "repositoryName": "app", "layerDigest": LAYER},
    ),
    Row(
        "a member of the wrong type",
        "SerializationException",
        "The member 'layerDigest' must be a string, and is a number",
        {"repositoryName": "app", "layerDigest": 5},
    ),
    Row(
        "another operation of ECR's",
        "UnknownOperationException",
        "The operation in X-Amz-Target is not one of this service's:"
        " 'AmazonEC2ContainerRegistry_V20150921.DescribeRegistry'",
        {},
        "DescribeRegistry",
    ),
    Row(
        "an image that there is not",
        "ImageNotFoundException",
        "The image with imageId {imageDigest:'null', imageTag:'none'} does not exist within the repository with name"
        f" 'app' in the registry with id '{REGISTRY}'",
        {"repositoryName": "app", "imageIds": [{"imageTag": "none"}]},
        "DescribeImages",
    ),
    Row(
        "a page of no results",
        "InvalidParameterException",
        "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value greater than or equal"
        " to 1'",
        {"repositoryName": "app", "maxResults": 0},
        "ListImages",
    ),
]


def refusal_of_outsider(repository: str) -> str:
    return (
        f"User: arn:aws:iam::{OUTSIDER}:user/local is not authorized to perform: ecr:GetDownloadUrlForLayer on"
        f" resource: arn:aws:ecr:us-east-1:{REGISTRY}:repository/{repository} because no resource-based policy allows"
        " the ecr:GetDownloadUrlForLayer action"
    )


def gets_layer(client: Client, wire: Wire, repository: str):
    """The client gets a URL, and behind it is the layer; it asks once, and signs for the service that it should."""
    outcome = client.call(wire.url, "GetDownloadUrlForLayer", {"repositoryName": repository, "layerDigest": LAYER})
    assert outcome.digest in (LAYER, ""), outcome  # the example in Rust prints the URL alone
    assert download(outcome.url)[0] == LAYER
    for path, headers in wire.requests:
        assert path.rstrip("/") == "/Prod", path
        assert f"/us-east-1/{client.signs_for}/aws4_request," in headers["Authorization"], headers["Authorization"]


def refused(client: Client, wire: Wire, row: Row, requests: int = 1):
    """The client has the exception of that name with that message, after so many requests."""
    outcome = client.call(wire.url, row.operation, row.members)
    assert (outcome.code, outcome.message) == (row.code, row.message), outcome
    if client.generic:
        assert outcome.type == (row.code if row.code in client.modelled else client.generic), outcome
        assert outcome.request_id == wire.request_ids[-1], outcome
    assert len(wire.requests) == requests, f"{len(wire.requests)} requests"


def can_make(client: Client, row: Row) -> bool:
    """Whether a client has a way to make a call: our model has our operations, the example in Rust two arguments."""
    if client.call is example_in_rust:
        return row.members.keys() == {"repositoryName", "layerDigest"} and row.members["layerDigest"] != 5
    return client.signs_for == "ecr" or row.code != "UnknownOperationException"


def is_time(value) -> bool:
    """Whether this is how a client shows a time of our days: as text, or in seconds since 1970."""
    return re.match("20[0-9]{2}-|1[0-9]{9}", str(value)) is not None


def tells_repositories(call: Callable):
    names = [repository["repositoryName"] for repository in call("DescribeRepositories", {})["repositories"]]
    assert names == ["app", "deleted"], names
    [app] = call("DescribeRepositories", {"repositoryNames": ["app"]})["repositories"]
    assert app["repositoryArn"] == f"arn:aws:ecr:us-east-1:{REGISTRY}:repository/app", app
    assert is_time(app["createdAt"]), app


def tells_images(call: Callable):
    page, ids = {"repositoryName": "app", "maxResults": 2}, []
    while page:
        answer = call("ListImages", page)
        assert len(answer["imageIds"]) <= 2, answer
        ids += answer["imageIds"]
        page = "nextToken" in answer and {**page, "nextToken": answer["nextToken"]}
    assert len(ids) == 3, ids
    tagged = call("ListImages", {"repositoryName": "app", "filter": {"tagStatus": "TAGGED"}})["imageIds"]
    assert tagged == [{"imageDigest": INDEX, "imageTag": "1.0"}] and tagged[0] in ids, tagged
    [detail] = call("DescribeImages", {"repositoryName": "app", "imageIds": tagged})["imageDetails"]
    assert (detail["imageDigest"], detail["imageTags"]) == (INDEX, ["1.0"]), detail
    assert is_time(detail["imagePushedAt"]), detail


def gives_manifests(call: Callable):
    answer = call("BatchGetImage", {"repositoryName": "app", "imageIds": [{"imageTag": "1.0"}, {"imageTag": "none"}]})
    [image], [failure] = answer["images"], answer["failures"]
    assert f"sha256:{hashlib.sha256(image['imageManifest'].encode()).hexdigest()}" == INDEX, image
    assert (failure["imageId"], failure["failureCode"]) == ({"imageTag": "none"}, "ImageNotFound"), failure


def tells_layers(call: Callable):
    answer = call("BatchCheckLayerAvailability", {"repositoryName": "app", "layerDigests": [LAYER, UNKNOWN, "x"]})
    known, unknown = answer["layers"]
    assert (known["layerDigest"], known["layerAvailability"], known["layerSize"]) == (LAYER, "AVAILABLE", 120), known
    assert (unknown["layerDigest"], unknown["layerAvailability"]) == (UNKNOWN, "UNAVAILABLE"), unknown
    assert [failure["failureCode"] for failure in answer["failures"]] == ["InvalidLayerDigest"], answer


def gives_token(call: Callable):
    [data] = call("GetAuthorizationToken", {})["authorizationData"]
    user, password = base64.b64decode(data["authorizationToken"]).decode().split(":")
    assert user == "AWS" and password and is_time(data["expiresAt"]), data


# The operations besides GetDownloadUrlForLayer.
OTHERS = [
    ("the repositories", tells_repositories),
    ("the images, page by page", tells_images),
    ("the manifest of an image, byte for byte", gives_manifests),
    ("which layers there are", tells_layers),
    ("a token to log in with", gives_token),
]


def others_of(client: Client, wire: Wire):
    """What a client with a way to call any operation makes of the others."""

    def checked(test: Callable):
        wire.reset()
        test(lambda operation, members: client.call(wire.url, operation, members).answer)
        for _, headers in wire.requests:
            assert f"/us-east-1/{client.signs_for}/aws4_request," in headers["Authorization"], headers["Authorization"]

    if client.call is not example_in_rust:
        for description, test in OTHERS:
            yield f"{client.name}: {description}", partial(checked, test)


def answers_of(client: Client, wire: Wire):
    """The table for one client, with a line each."""

    def case(description: str, test: Callable, *arguments, answers=()):
        def checked():
            wire.reset(*answers)
            test(client, wire, *arguments)

        return f"{client.name}: {description}", checked

    members = {"repositoryName": "app", "layerDigest": LAYER}

    def got_after_retry(client: Client, wire: Wire):
        gets_layer(client, wire, "app")
        assert len(wire.requests) == 2, f"{len(wire.requests)} requests"

    def got_at_once(client: Client, wire: Wire):
        gets_layer(client, wire, "app")
        assert len(wire.requests) == 1, f"{len(wire.requests)} requests"

    yield case("a layer, asked for once, signed, downloaded", got_at_once)
    for row in REFUSALS:
        if can_make(client, row):
            yield case(f"{row.description}: {row.code}, asked for once", refused, row)
    for answer, description in [(SERVER_FAULT, "a fault"), (THROTTLED, "too many calls")]:
        error = json.loads(answer[2])
        row = Row(description, error["__type"], error["message"], members)
        yield case(f"{description}, then a layer: retried", got_after_retry, answers=[answer])
        yield case(
            f"{description}, again and again: {row.code} after {ATTEMPTS} requests",
            refused,
            row,
            ATTEMPTS,
            answers=[answer] * ATTEMPTS,
        )


def scripted_answers_are_the_stacks(stack: LocalStack):
    """What stands in for the stack's faults has the form of the answers that it does give."""
    row = next(row for row in REFUSALS if row.code == "RepositoryNotFoundException")
    status, headers, body = ask(stack.url, **row.members)
    ours = error_answer(400, row.code, row.message)
    assert (status, body) == (ours[0], ours[2]), body
    # The date is the server's, not the function's.
    assert headers.keys() - {"date"} == ours[1].keys(), headers
    for name in ours[1].keys() - {"x-amzn-requestid"}:
        assert headers[name] == ours[1][name], headers


def finds_endpoint(client: Client, environment: dict):
    """The client needs no other settings than those of the environment."""
    members = {"repositoryName": "app", "layerDigest": LAYER}
    outcome = client.call("", "GetDownloadUrlForLayer", members, environment)
    assert download(outcome.url)[0] == LAYER


def endpoints(stack: LocalStack, wire: Wire):
    """The two ways to tell a client by its environment where to call."""
    ours = {**os.environ, "AWS_ENDPOINT_URL_LAYERGATE": wire.url}
    for client in CLIENTS:
        if client.call is example_in_rust:
            continue  # takes the endpoint as an argument
        if client.signs_for == "ecr":
            yield f"{client.name}: needs nothing but local.env", partial(finds_endpoint, client, stack.environment)
        else:
            name = "AWS_ENDPOINT_URL_LAYERGATE"
            yield f"{client.name}: needs nothing but {name}", partial(finds_endpoint, client, ours)


def example_in_javascript(wire: Wire, digest: str, refusal: str):
    """clients/pull.mjs writes a layer, or says in a line why not; it signs as API Gateway wants."""
    wire.reset()
    command = ["node", "--no-warnings", JAVASCRIPT / "pull.mjs", wire.url, "app", digest]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    if refusal:
        assert done.returncode == 1 and done.stderr.decode().startswith(f"{refusal}: "), done
    else:
        assert done.returncode == 0, done.stderr
        assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == digest
    assert [path.rstrip("/") for path, _ in wire.requests] == ["/Prod"]
    assert "/us-east-1/execute-api/aws4_request," in wire.requests[0][1]["Authorization"]


def access(stack: LocalStack, wire: Wire):
    """What an account sees that the registry does not belong to."""
    seen = {}

    def look():
        """What goes over the wire, but for the request's own id and the time."""
        status, headers, body = ask(stack.url, repositoryName="team/app", layerDigest=LAYER)
        return status, {name: headers[name] for name in headers.keys() - {"x-amzn-requestid", "date"}}, body

    def nothing_there():
        seen["missing"] = look()
        assert json.loads(seen["missing"][2])["message"] == refusal_of_outsider("team/app"), seen

    def nothing_told():
        stack.publish(SAMPLE, "team/app:1.0")
        assert look() == seen["missing"]

    def each_refused(client: Client):
        wire.reset()
        members = {"repositoryName": "team/app", "layerDigest": LAYER}
        refused(client, wire, Row("", "AccessDeniedException", refusal_of_outsider("team/app"), members))

    def each_allowed(client: Client):
        wire.reset()
        gets_layer(client, wire, "team/app")

    def granted(verb: str, accounts: list):
        done = stack.layergate("repository", verb, "team/app", OUTSIDER)
        assert done.returncode == 0, done.stderr
        shown = stack.layergate("repository", "show", "team/app")
        assert json.loads(shown.stdout)["accounts"] == accounts, shown.stdout

    yield "an outsider is refused a repository that there is not", nothing_there
    yield "an outsider gets the same bytes once there is one", nothing_told
    for client in CLIENTS:
        yield f"{client.name}: an outsider is refused", partial(each_refused, client)
    yield "grant shows in the repository", partial(granted, "grant", [OUTSIDER])
    for client in CLIENTS:
        yield f"{client.name}: an outsider gets the layer after grant", partial(each_allowed, client)
    yield "revoke shows in the repository", partial(granted, "revoke", [])
    for client in CLIENTS:
        yield f"{client.name}: an outsider is refused after revoke", partial(each_refused, client)
    yield "after revoke an outsider gets the same bytes as at first", lambda: check_equal(look(), seen["missing"])


def check_equal(seen, wanted):
    assert seen == wanted, f"{seen} is not {wanted}"


def install():
    """Installs the clients that are not there already."""
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("this needs Node.js 20 or later, with npm; install it")
    install_python()
    install_once(JAVASCRIPT, HERE / "package-lock.json", install_javascript)
    # Node finds the SDK in the folder that a program is in.
    for program in [HERE / "ecr_javascript.mjs", ROOT / "clients/pull.mjs"]:
        shutil.copy(program, JAVASCRIPT)


def install_javascript():
    for file in ["package.json", "package-lock.json"]:
        shutil.copy(HERE / file, JAVASCRIPT)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=JAVASCRIPT, check=True)


def isolate(folder: Path):
    """Keeps whatever AWS configuration the user has out of the tests, and the tests out of it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    config = folder / "config"
    # Without it the clients themselves refuse what the server is to refuse.
    config.write_text("[default]\nparameter_validation = false\n")
    os.environ.update(
        HOME=str(folder),
        AWS_CONFIG_FILE=str(config),
        AWS_EC2_METADATA_DISABLED="true",
        AWS_MAX_ATTEMPTS=str(ATTEMPTS),
        AWS_PAGER="",
        # The secret matters to S3 only, which sees URLs that the function signed.
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
    )


def add_model():
    """Installs our service model, by the command in the README."""
    command = [AWS, "configure", "add-model", "--service-name", "layergate"]
    subprocess.run([*command, "--service-model", "file://clients/service-2.json"], cwd=ROOT, check=True)


def main() -> int:
    for program in [LAYERGATE, EXECUTE_API]:
        if not Path(program).is_file():
            sys.exit(f"there is no {program}; make test-clients builds it")
    install()
    with temporary_folder() as folder, ExitStack() as running:
        isolate(folder)
        add_model()
        stack = running.enter_context(LocalStack(folder / "own"))
        wire = running.enter_context(Wire(stack.url))
        stack.publish(SAMPLE, "app:1.0")
        stack.publish(SAMPLE, "deleted:1.0")
        assert stack.layergate("image", "delete", "deleted:1.0").returncode == 0

        outside = running.enter_context(LocalStack(folder / "outside", "--as", OUTSIDER))
        wire_outside = running.enter_context(Wire(outside.url))

        cases = [
            (
                "the faults in these tests have the form of the stack's errors",
                partial(scripted_answers_are_the_stacks, stack),
            ),
            *(case for client in CLIENTS for case in answers_of(client, wire)),
            *(case for client in CLIENTS for case in others_of(client, wire)),
            *endpoints(stack, wire),
            ("clients/pull.mjs: a layer", partial(example_in_javascript, wire, LAYER, "")),
            (
                "clients/pull.mjs: a layer that there is not",
                partial(example_in_javascript, wire, UNKNOWN, "LayersNotFoundException"),
            ),
            *access(outside, wire_outside),
        ]
        return run_table(cases)


if __name__ == "__main__":
    sys.exit(main())
