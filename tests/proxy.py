"""A server in front of another one, for tests that need to know or to change what happens between two programs."""

from http.client import HTTPConnection, HTTPResponse

from tests.http_server import Handler, Server
from tests.local_stack import PATIENCE


class Proxy(Server):
    """Passes GET and HEAD on to a host. What is special about it, a subclass says."""

    def __init__(self, target: str):
        super().__init__(PassesOn)
        self.target = target

    def before_request(self, path: str):
        """Is called before the host sees a request."""

    def before_body(self, path: str, body: bytes):
        """Is called when the headers of an answer have been sent, and its body has not."""


class PassesOn(Handler):
    def do_GET(self):
        self.server.before_request(self.path)
        connection = HTTPConnection(self.server.target, timeout=PATIENCE)
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
        framing = ["content-length", "transfer-encoding"]
        headers = [header for header in response.getheaders() if header[0].lower() not in framing]
        length = response.getheader("Content-Length") if self.command == "HEAD" else len(body)
        if length is not None:
            headers.append(("Content-Length", str(length)))
        self.answer_headers(response.status, headers)
        self.server.before_body(self.path, body)
        self.wfile.write(body)
