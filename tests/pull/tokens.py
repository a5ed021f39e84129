"""Tokens of the registry: those that it gives, and those that it gave long ago."""

import base64
import hashlib
import hmac
import json
import time

from tests.local_stack import LocalStack

DAY = 24 * 60 * 60
LIFE = 12 * 60 * 60


def issued(stack: LocalStack) -> str:
    """A token for the account that calls come from in a stack."""
    done = stack.layergate("login")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["password"]


def issued_ago(stack: LocalStack, seconds: int) -> str:
    """The token that the stack would have given so many seconds ago: made as src/access/token.rs makes it, with the
    stack's own key."""
    then = int(time.time()) - seconds
    claims = {
        "account": "000000000000",
        "arn": "arn:aws:iam::000000000000:user/local",
        "registry": "000000000000",
        "expires": then + LIFE,
    }
    key = mac((stack.data / "token.key").read_bytes(), f"layergate token v1|{then // DAY}")
    text = encoded(json.dumps(claims).encode())
    return f"{text}.{encoded(mac(key, text))}"


def mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), hashlib.sha256)


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
