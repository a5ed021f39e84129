#!/usr/bin/env bash
# Runs a command, such as `sam local invoke`, with a container engine and a way for containers to reach the
# services of AWS that the function asks. They listen on this machine's loopback at AWS_ENDPOINT_URL_DYNAMODB,
# AWS_ENDPOINT_URL_KMS and AWS_ENDPOINT_URL_LAMBDA.
#
# On Linux the engine is a podman of our own that serves Docker's API, with its images, settings and socket in a
# directory that goes when the command ends. Elsewhere it is Docker Desktop or what else answers as Docker.
set -euo pipefail

readonly base_image=public.ecr.aws/lambda/provided:al2023-x86_64
readonly dynamodb_port=${AWS_ENDPOINT_URL_DYNAMODB##*:} kms_port=${AWS_ENDPOINT_URL_KMS##*:}
# The local stack's Lambda is below a path of its own.
readonly lambda_place=${AWS_ENDPOINT_URL_LAMBDA##*:}
readonly lambda_port=${lambda_place%%/*}

# sam local asks STS whose credentials it was given, and those of a local stack are no account's: that question
# stays on this machine, where it is refused at once.
export AWS_ENDPOINT_URL_STS=http://127.0.0.1:9 AWS_MAX_ATTEMPTS=1

endpoints_at() {
    AWS_ENDPOINT_URL_DYNAMODB=http://$1:$dynamodb_port
    AWS_ENDPOINT_URL_KMS=http://$1:$kms_port
    AWS_ENDPOINT_URL_LAMBDA=http://$1:$lambda_place
}

if [[ $(uname) != Linux ]]; then
    endpoints_at host.docker.internal
    exec "$@"
fi

if ! { command -v podman && command -v runc && command -v busybox && command -v skopeo; } >/dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends \
        busybox-static containernetworking-plugins iptables podman runc skopeo >/dev/null
fi

work=$(mktemp -d)
engine=(podman --root "$work/storage" --runroot "$work/run")
started=()
clean_up() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    # Containers that an interrupted command left.
    "${engine[@]}" rm --all --force >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# The default limits are more than a machine that is itself a container may give. Without stop_timeout each call
# ends with 10 s of waiting for a Lambda runtime that does not end by itself.
export CONTAINERS_CONF=$work/containers.conf
cat >"$CONTAINERS_CONF" <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
stop_timeout = 0
CONF

# What is asked of the base image: a shell and a few commands, with which sam local lays its own layer on top, and
# the libraries that the function is linked to.
make_stand_in() {
    local root=$work/image
    mkdir -p "$root"/{bin,tmp,var/task,var/runtime}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for command in chmod mkdir mv sh; do ln -s busybox "$root/bin/$command"; done
    ldd .aws-sam/build/Function/bootstrap | grep --only-matching '/[^ ]*' | while read -r library; do
        install -D "$library" "$root$library"
    done
    tar --create --directory "$root" . | "${engine[@]}" import --quiet - "$base_image" >/dev/null
}
if timeout 300 "${engine[@]}" pull --quiet "$base_image" >"$work/pull" 2>&1; then
    echo "base image: $base_image" >&2
else
    echo "base image: a stand-in, as $base_image cannot be pulled: $(tail -n 1 "$work/pull")" >&2
    make_stand_in
fi

gateway=$("${engine[@]}" network inspect podman --format '{{(index .Subnets 0).Gateway}}')
for port in "$dynamodb_port" "$kms_port" "$lambda_port"; do
    python3 "${BASH_SOURCE%/*}/relay.py" "$gateway" "$port" &
    started+=($!)
done
endpoints_at "$gateway"

# In a session of its own: an interrupt is for the command, which then still asks the engine to stop containers.
setsid "${engine[@]}" system service --time=0 "unix://$work/podman.sock" 2>"$work/service" &
started+=($!)
for _ in {1..100}; do
    [[ -S $work/podman.sock ]] && break
    sleep 0.1
done
[[ -S $work/podman.sock ]] || { cat "$work/service" >&2; exit 1; }

DOCKER_HOST=unix://$work/podman.sock "$@"
