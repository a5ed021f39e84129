"""Every way to log in, with what docker, podman and a kubelet have for it."""

import json
import os
from functools import partial
from pathlib import Path

from tests.clients.install import AWS
from tests.local_stack import LAYERGATE, LocalStack, exports, run
from tests.pull import tokens
from tests.pull.clients import Client, Ctr, Docker, Login, Podman, pulls
from tests.pull.images import Image
from tests.pull.refusals import WRONG_PASSWORD

# What prints a password, as a line for a shell.
PASSWORDS = {
    "aws ecr get-authorization-token": "aws ecr get-authorization-token --output text"
    " --query 'authorizationData[0].authorizationToken' | base64 --decode | cut -d: -f2",
    "aws ecr get-login-password": "aws ecr get-login-password",
    "layergate login": "layergate login",
}
# What takes it. Both keep it where they are told to, in a file of the same form.
LOGINS = {
    "docker": "docker login --username AWS --password-stdin $HOST",
    "podman": "podman login --tls-verify=false --username AWS --password-stdin $HOST",
}


def settings(stack: LocalStack) -> dict:
    """What a shell has that has read the stack's local.env, with the programs in its path."""
    path = f"{AWS.parent}:{Path(LAYERGATE).parent}:{os.environ['PATH']}"
    return {**exports(stack.data / "local.env"), "HOST": stack.host, "PATH": path}


def logs_in(client: Client, stack: LocalStack, image: Image, folder: Path, password: str):
    """A client pulls after its own login, with a password that is piped into it."""
    folder.mkdir()
    kept = {"DOCKER_CONFIG": str(folder), "REGISTRY_AUTH_FILE": str(folder / "config.json")}
    said = run(f"{password} | {LOGINS[client.name]}", folder, {**client.environment, **settings(stack), **kept})
    assert "Login Succeeded" in said, said
    pulls(client, image, f"{stack.host}/{image.repository}:1.0", Login(folder))


def docker_login_refused(docker: Docker, stack: LocalStack, folder: Path):
    """`docker login` does not take a password that the registry does not take."""
    folder.mkdir()
    user = ["--username", "AWS", "--password", WRONG_PASSWORD]
    done = docker.run("docker", "--config", folder, "login", *user, stack.host)
    assert done.returncode != 0 and "401 Unauthorized" in done.stdout, done
    assert not (folder / "config.json").exists(), "and keeps it all the same"


def asks_helper(client: Client, stack: LocalStack, image: Image, folder: Path):
    """A client that has no password asks docker-credential-layergate at its pull."""
    login = Login.of(folder, {"credHelpers": {stack.host: "layergate"}})
    pulls(client.told(settings(stack)), image, f"{stack.host}/{image.repository}:1.0", login)


def kubelet_pulls(ctr: Ctr, stack: LocalStack, image: Image, folder: Path):
    """A kubelet gets credentials for an image, with which containerd pulls it."""
    folder.mkdir()
    reference = f"{stack.host}/{image.repository}:1.0"
    request = {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": reference,
    }
    (folder / "request.json").write_text(json.dumps(request))
    said = run("layergate credential-provider < request.json", folder, {**ctr.environment, **settings(stack)})
    answer = json.loads(said)
    assert answer["kind"] == "CredentialProviderResponse" and answer["auth"].keys() == {stack.host}, answer.keys()
    credentials = answer["auth"][stack.host]
    assert credentials["username"] == "AWS", credentials["username"]
    pulls(ctr, image, reference, Login(folder, credentials["password"]))


def pulls_by_own_name(ctr: Ctr, stack: LocalStack, image: Image, folder: Path):
    """containerd's hosts.toml says where the registry is that an image's name names."""
    hosts = folder / "registry.example"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'[host."{stack.url}"]\n  capabilities = ["pull", "resolve"]\n')
    login = Login(folder, tokens.issued(stack))
    pulls(ctr, image, f"registry.example/{image.repository}:1.0", login, "--hosts-dir", folder)


def logged_in(docker: Docker, ctr: Ctr, podman: Podman, others: list, stack: LocalStack, image: Image, folder: Path):
    """The table of logins."""
    folder.mkdir()
    for number, (what, password) in enumerate(PASSWORDS.items()):
        for client in [docker, podman]:
            test = partial(logs_in, client, stack, image, folder / f"{client.name}-{number}", password)
            yield f"{client.name}: pulls after {what} | {client.name} login", test
    yield "docker: login with a wrong password", partial(docker_login_refused, docker, stack, folder / "wrong")
    for client in [docker, podman, *others]:
        place = folder / f"helper-{client.name}"
        yield f"{client.name}: pulls with the credential helper", partial(asks_helper, client, stack, image, place)
    yield "ctr: pulls with what a kubelet gets", partial(kubelet_pulls, ctr, stack, image, folder / "kubelet")
    yield "ctr: pulls by a name in hosts.toml", partial(pulls_by_own_name, ctr, stack, image, folder / "hosts")
