"""What the logs must not have."""

import base64

from tests.pull import tokens
from tests.pull.refusals import WRONG_PASSWORD

# How every token begins, by itself and as the password in the header of a request.
TOKEN = tokens.encoded(b'{"account":"')
CREDENTIALS = base64.b64encode(f"AWS:{TOKEN[:14]}".encode()).decode()


def no_secret_in_logs(stacks: list, others: dict):
    """No line that any of the stacks has logged has a token, a password, a key, a signed URL, or one of the other secrets
    in it."""
    secrets = {
        **others,
        "a token": TOKEN,
        "the credentials of a request": CREDENTIALS,
        "a password": WRONG_PASSWORD,
        "the password of a request": base64.b64encode(f"AWS:{WRONG_PASSWORD}".encode()).decode(),
        "a signature": "X-Amz-Signature",
        "a signed URL": "X-Amz-Credential",
    }
    for stack in stacks:
        token = tokens.issued(stack)
        assert token.startswith(TOKEN), "tokens begin in another way"
        assert base64.b64encode(f"AWS:{token}".encode()).decode().startswith(CREDENTIALS)
        own = {
            "the key of the tokens": (stack.data / "token.key").read_text(),
            "the key of the signatures": stack.environment["AWS_SECRET_ACCESS_KEY"],
        }
        log = (stack.data / "log").read_text()
        # The log is of what the clients did. It has no line for a layer that somebody reads who may push.
        for outcome in ["GetManifest", "OK"]:
            assert f'"{outcome}"' in log, f"no {outcome} in the log in {stack.data}"
        for what, secret in {**secrets, **own}.items():
            assert secret and secret not in log, f"{what} is in the log in {stack.data}"
