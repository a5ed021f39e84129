"""What stands between a client and the local stack, and the answers that it can give in the stack's place."""

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.http_server import Handler, Server
from tests.local_stack import PATIENCE


class Wire(Server):
    """A server between a client and the stack. Notes the requests, and answers those that `answers` has one for."""

    def __init__(self, upstream: str):
        super().__init__(PassesOn)
        self.upstream = urlsplit(upstream)
        self.requests = []
        self.request_ids = []
        self.answers = []
        # With a stage's path, as APIs of API Gateway have it.
        self.url = f"http://{self.host}/Prod"

    def forward(self, path, headers, body):
        connection = HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=PATIENCE)
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def reset(self, *answers):
        """Forgets what it noted. The next requests get these answers, and those after them the stack's."""
        self.requests.clear()
        self.request_ids.clear()
        self.answers[:] = answers


class PassesOn(Handler):
    def do_POST(self):
        wire = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wire.requests.append((self.path, self.headers))
        answer = wire.answers.pop(0) if wire.answers else wire.forward(self.path, self.headers, body)
        status, headers, body = answer
        wire.request_ids.append(headers["x-amzn-requestid"])
        self.answer_headers(status, headers.items())
        self.wfile.write(body)


def error_answer(status: int, code: str, message: str):
    """An error in the form that the function gives it."""
    body = json.dumps({"__type": code, "message": message}, separators=(",", ":")).encode()
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amzn-requestid": "5f0c1a52-6f4e-4f0e-9c39-1d2b6d3f8a10",
        "x-amzn-errortype": code,
        "content-length": str(len(body)),
    }
    return status, headers, body


SERVER_FAULT = error_answer(
    500, "ServerException", "The service could not answer this request because of an internal fault; try again"
)
THROTTLED = error_answer(400, "ThrottlingException", "Rate exceeded")
