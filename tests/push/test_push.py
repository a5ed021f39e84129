"""docker, podman, buildah and skopeo, unmodified, push to the local stack and to the proxy, and pull back.

What each has after the pull is compared with what was pushed. A second push of the same image, and a push of its layers
into another repository, send no layer. A layer of 1 GiB, an image of 100 layers, and a push that is killed and repeated
follow; at last pushes that are refused.

Run it with `make test-push`. The clients come from Debian's packages, which takes root, as do dockerd and containerd.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.container_tools import digest_of, environment_in
from tests.local_stack import LAYERGATE, LocalStack, run, run_table, stop, temporary_folder
from tests.pull import tokens
from tests.pull.all_clients import all_clients, install_clients
from tests.pull.clients import Client, Login, pulls
from tests.pull.images import SAMPLE, Image, Source, sources

OUTSIDER = "111111111111"
GIB = 1024 * 1024 * 1024
# A push of 1 GiB on two busy cores.
LONG_PATIENCE = 300


@contextmanager
def proxy(stack: LocalStack, *options: str):
    """`layergate proxy` for the registry of a stack; gives its host."""
    command = [LAYERGATE, "proxy", "--port", "0", *options]
    log = open(stack.data / "proxy.log", "ab")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=stack.environment, text=True)
    try:
        yield process.stdout.readline().split()[-1].rstrip(":")
    finally:
        stop(process)
        process.stdout.close()
        log.close()


def lines_of_layers(stack: LocalStack) -> list:
    """What the log of a stack says of layers that were stored, as objects."""
    logged = [json.loads(line) for line in (stack.data / "log").read_text().splitlines()]
    return [line for line in logged if line.get("message") == "stored a layer"]


def sent(stack: LocalStack) -> int:
    """How many layers went to the bucket so far."""
    return sum(line["is_sent"] for line in lines_of_layers(stack))


def copy(client: Client, layout: Path, image: str, target: str, login: Login, *options):
    """skopeo pushes an image of a layout."""
    authfile = ["--authfile", login.config / "config.json"]
    command = ["skopeo", "copy", "--dest-tls-verify=false", *authfile, *options, f"oci:{layout}:{image}"]
    return client.run(*command, f"docker://{target}")


def push_sample(clients, client: Client, host: str, repository: str, image: Image, login: Login):
    """Has a client push the amd64 image of the sample, which it has pulled from elsewhere."""
    target = f"{host}/{repository}:pushed"
    source = f"{host}/single:1.0"
    config = login.config
    if client is clients.docker:
        client.lines("docker", "--config", config, "pull", source)
        client.lines("docker", "tag", source, target)
        return client.run("docker", "--config", config, "push", target)
    authfile = ["--authfile", config / "config.json"]
    if client is clients.skopeo:
        command = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *authfile]
        return client.run(*command, f"docker://{source}", f"docker://{target}")
    client.lines(client.name, "pull", "--tls-verify=false", *authfile, source)
    client.lines(client.name, "tag", source, target)
    return client.run(client.name, "push", "--tls-verify=false", *authfile, target)


def pushed_and_pulled(clients, client: Client, stack: LocalStack, host: str, image: Image, login: Login):
    """A client pushes an image; skopeo then pulls it, with the same layers and the same config."""
    client.forget()
    repository = f"by-{client.name}"
    done = push_sample(clients, client, host, repository, image, login)
    assert done.returncode == 0, f"exits with {done.returncode}: {done.stdout}"
    before = sent(stack)
    again = push_sample(clients, client, host, repository, image, login)
    assert again.returncode == 0, again.stdout
    other = push_sample(clients, client, host, f"{repository}-again", image, login)
    assert other.returncode == 0, other.stdout
    assert sent(stack) == before, "the same layers were sent again"
    clients.skopeo.forget()
    reference = f"{host}/{repository}:pushed"
    done = clients.skopeo.pull(reference, image.platform, login)
    assert done.returncode == 0, done.stdout
    manifest = json.loads((clients.skopeo.copy / "manifest.json").read_bytes())
    assert manifest["config"]["digest"] == image.config, manifest
    has = clients.skopeo.has()
    assert {layer["digest"] for layer in manifest["layers"]} | {image.config} <= has, has


def index_is_copied(clients, host: str, index: Source, login: Login):
    """skopeo pushes an index with all its images; docker, containerd and podman pull from it."""
    done = copy(clients.skopeo, index.layout, "1.0", f"{host}/index-pushed:1.0", login, "--all")
    assert done.returncode == 0, done.stdout
    for image in index.images():
        pushed = image._replace(repository="index-pushed")
        for client in (clients.docker, clients.podman, clients.skopeo):
            pulls(client, pushed, f"{host}/index-pushed:1.0", login)


def layout_of(folder: Path, layers: list) -> Path:
    """A layout with one image of these layers, which are files or bytes, in gzip: skopeo compresses all others."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(content) -> dict:
        if isinstance(content, Path):
            digest = run(f"sha256sum {content}", folder, os.environ).split()[0]
            content.rename(blobs / digest)
        else:
            digest = digest_of(content).removeprefix("sha256:")
            (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": (blobs / digest).stat().st_size}

    described = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **add(layer)} for layer in layers]
    diff_ids = [layer["digest"] for layer in described]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **add(json.dumps(config).encode())}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": described}
    root = {"mediaType": media_type, **add(json.dumps(manifest).encode())}
    root["annotations"] = {"org.opencontainers.image.ref.name": "1.0"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    return folder


def skopeo_push(environment: dict, layout: Path, target: str) -> subprocess.Popen:
    command = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:1.0", f"docker://{target}"]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def large_layer(environment: dict, folder: Path, host: str):
    """One layer of 1 GiB, which is pushed, killed halfway, pushed whole, and pushed again."""
    file = folder / "layer"
    with gzip.open(file, "wb", compresslevel=0) as layer:
        for _ in range(GIB // (8 * 1024 * 1024)):
            layer.write(os.urandom(8 * 1024 * 1024))
    layout = layout_of(folder / "large", [file])
    killed = skopeo_push(environment, layout, f"{host}/large:1.0")
    time.sleep(1)  # whatever it has sent by then
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for attempt in ("whole", "again"):
        started = time.monotonic()
        process = skopeo_push(environment, layout, f"{host}/large:1.0")
        said, _ = process.communicate(timeout=LONG_PATIENCE)
        assert process.returncode == 0, said
        print(f"1 GiB, {attempt}: {time.monotonic() - started:.1f} s")


def many_layers(environment: dict, folder: Path, host: str):
    """An image of 100 layers."""
    layout = layout_of(folder / "many", [gzip.compress(f"layer {n}".encode() * 1000, mtime=0) for n in range(100)])
    process = skopeo_push(environment, layout, f"{host}/many:1.0")
    said, _ = process.communicate(timeout=LONG_PATIENCE)
    assert process.returncode == 0, said
    pulled = folder / "many-pulled"
    run(f"skopeo copy -q --src-tls-verify=false docker://{host}/many:1.0 dir:{pulled}", folder, environment)
    blobs = {file.name for file in (layout / "blobs/sha256").iterdir()}
    has = {digest_of(file.read_bytes()).removeprefix("sha256:") for file in pulled.iterdir() if file.name != "version"}
    assert blobs == has, blobs ^ has


def refused_pushes(clients, stack: LocalStack, outside: LocalStack, folder: Path):
    """Pushes that are refused, each with the sentence that its client shows."""
    none, skopeo = Login.none(folder / "no-login"), clients.skopeo
    with proxy(stack) as host:
        done = copy(skopeo, SAMPLE, "1.0", f"{host}/nowhere:1", none, "--all")
        assert done.returncode != 0 and "layergate repository create nowhere" in done.stdout, done.stdout
    with proxy(stack, "--login", "--create-repositories") as host:
        done = copy(skopeo, SAMPLE, "1.0", f"{host}/app:1", none, "--all")
        assert done.returncode != 0 and "unauthorized" in done.stdout.lower(), done.stdout
        # A password of another account, whose tokens come from the same key.
        stranger = Login.at(folder / "stranger", host, tokens.issued(outside))
        done = copy(skopeo, SAMPLE, "1.0", f"{host}/app:1", stranger, "--all")
        assert done.returncode != 0, "a stranger pushes"
        own = Login.at(folder / "own", host, tokens.issued(stack))
        done = copy(skopeo, SAMPLE, "1.0", f"{host}/app:1", own, "--all")
        assert done.returncode == 0, done.stdout


def no_secret_in_logs(stacks: list):
    for stack in stacks:
        for log in stack.data.glob("*log"):
            text = log.read_text()
            for secret in ("X-Amz-Signature", stack.environment["AWS_SECRET_ACCESS_KEY"], "Basic "):
                assert secret not in text, f"{secret} is in {log}"


def main() -> int:
    if not Path(LAYERGATE).is_file():
        sys.exit(f"there is no {LAYERGATE}; make test-push builds it")
    install_clients()
    with temporary_folder() as folder, ExitStack() as running:
        environment = environment_in(folder / "tools")
        clients = running.enter_context(all_clients(folder, environment))
        stack = running.enter_context(LocalStack(folder / "stack"))
        outside = running.enter_context(LocalStack(folder / "outside", "--as", OUTSIDER))
        single, index, _ = sources(folder, environment)
        for source in (single, index):
            source.publish(stack)
        (image,) = [image for image in single.images()]
        none = Login.none(folder / "none")
        through_proxy = running.enter_context(proxy(stack, "--create-repositories"))
        hosts = {"the local stack": stack.host, "the proxy": through_proxy}
        pushers = [clients.docker, clients.podman, clients.buildah, clients.skopeo]
        table = [
            (
                f"{client.name} pushes to {where}",
                partial(pushed_and_pulled, clients, client, stack, host, image, none),
            )
            for where, host in hosts.items()
            for client in pushers
        ]
        return run_table(
            [
                *table,
                ("an index of several platforms", partial(index_is_copied, clients, stack.host, index, none)),
                ("an image of 100 layers", partial(many_layers, environment, folder, through_proxy)),
                ("a layer of 1 GiB", partial(large_layer, environment, folder, through_proxy)),
                ("pushes that are refused", partial(refused_pushes, clients, stack, outside, folder)),
                ("no log has a secret", partial(no_secret_in_logs, [stack, outside])),
            ]
        )


if __name__ == "__main__":
    sys.exit(main())
