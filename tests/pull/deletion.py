"""An image that is deleted while it is pulled."""

import threading

from tests.local_stack import LocalStack
from tests.proxy import Proxy


class DeletesOnTheWay(Proxy):
    """A server in front of a stack's registry. Deletes an image when the first blob is asked for, before the stack sees
    that: when the client has the manifest, and no layer."""

    def __init__(self, stack: LocalStack, image: str):
        super().__init__(stack.host)
        self.stack = stack
        self.image = image
        self.is_deleted = False
        # What the registry answered with.
        self.answers = []
        self.deletion = threading.Lock()

    def before_request(self, path: str):
        if "/blobs/" not in path:
            return
        with self.deletion:
            if not self.is_deleted:
                self.is_deleted = True
                done = self.stack.layergate("image", "delete", self.image)
                assert done.returncode == 0, done.stderr

    def before_body(self, path: str, body: bytes):
        self.answers.append(body.decode())
