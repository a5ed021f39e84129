"""An image that is deleted while it is pulled."""

import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.local_stack import PATIENCE, LocalStack


class DeletesOnTheWay:
    """A server in front of a stack's registry. Deletes an image when the first blob is asked for, before the stack sees
    that: when the client has the manifest, and no layer."""

    def __init__(self, stack: LocalStack, image: str):
        self.stack = stack
        self.image = image
        self.is_deleted = False
        # What the registry answered with.
        self.answers = []
        self.deletion = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = PATIENCE

            def do_GET(self):
                if "/blobs/" in self.path:
                    proxy.delete()
                connection = HTTPConnection(stack.host, timeout=PATIENCE)
                try:
                    connection.request(self.command, self.path, headers=dict(self.headers))
                    response = connection.getresponse()
                    body = response.read()
                    proxy.answers.append(body.decode())
                finally:
                    connection.close()
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    self.send_header(name, value)
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    self.close_connection = True  # a client that was refused one layer asks for no other

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def delete(self):
        with self.deletion:
            if not self.is_deleted:
                self.is_deleted = True
                done = self.stack.layergate("image", "delete", self.image)
                assert done.returncode == 0, done.stderr
