"""A server in front of another one, for tests that need to know or to change what happens between two programs."""

import threading
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.local_stack import PATIENCE


class Proxy:
    """Passes GET and HEAD on to a host, until the `with` block ends. What is special about it, a subclass says."""

    def __init__(self, host: str):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = PATIENCE

            def do_GET(self):
                proxy.before_request(self.path)
                connection = HTTPConnection(host, timeout=PATIENCE)
                try:
                    # The header Host stays: a signature may be about it.
                    connection.request(self.command, self.path, headers=dict(self.headers))
                    self.answer(connection.getresponse())
                except ConnectionError:
                    self.close_connection = True  # one of the two has no use for the rest
                finally:
                    connection.close()

            do_HEAD = do_GET

            def answer(self, response: HTTPResponse):
                body = response.read()
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ["content-length", "transfer-encoding"]:
                        self.send_header(name, value)
                is_head = self.command == "HEAD"
                length = response.getheader("Content-Length") if is_head else str(len(body))
                if length is not None:
                    self.send_header("Content-Length", length)
                self.end_headers()
                proxy.before_body(self.path, body)
                self.wfile.write(body)

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

    def before_request(self, path: str):
        """Is called before the host sees a request."""

    def before_body(self, path: str, body: bytes):
        """Is called when the headers of an answer have been sent, and its body has not."""
