"""Servers of the tests: each on a port that the system picks, until its `with` block ends."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.local_stack import PATIENCE


class Handler(BaseHTTPRequestHandler):
    """Answers requests. Its `server` is the one that it is for."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def log_message(self, *_):
        pass

    def answer_headers(self, status: int, headers):
        """Sends what comes before the body: these pairs, and nothing of its own."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """A server for these handlers."""

    daemon_threads = True

    def __init__(self, handler: type[Handler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
