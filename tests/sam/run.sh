#!/usr/bin/env bash
# Tests the function as built by `sam build` in sam local, against a local stack of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

PATH=${TARGET_DIR:-$PWD/target}/debug:$PATH
unset AUTHORIZATION CACHE_SECONDS URL_EXPIRY_SECONDS

data=$(mktemp -d)
layergate local --data "$data" --port 0 >"$data/output" 2>&1 &
stack=$!
clean_up() {
    kill "$stack" 2>/dev/null || true
    wait "$stack" || true
    rm -rf "$data"
}
trap clean_up EXIT

for _ in {1..100}; do
    grep -q '^layergate is at' "$data/output" && break
    sleep 0.1
done
grep -q '^layergate is at' "$data/output" || { cat "$data/output" >&2; exit 1; }
# shellcheck source=/dev/null
. "$data/local.env"

layergate publish --create-repository examples/hello-image hello:1.0
layergate publish --create-repository examples/hello-image retired:1.0
layergate image delete retired:1.0

tests/sam/with-engine.sh pytest tests/sam/test_local.py
