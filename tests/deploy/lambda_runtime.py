"""Lambda's side of the Runtime API, for one call.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import queue
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PATIENCE = 30


def answer(bootstrap: Path, environment: dict[str, str], event: dict) -> dict:
    """What the program answers to an event, with these variables and no others."""
    answers: queue.Queue[dict] = queue.Queue()
    asked = threading.Event()

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked.is_set():
                # There is no second call: Lambda would freeze the process here.
                time.sleep(PATIENCE)
                return
            asked.set()
            deadline = str(int((time.time() + 6) * 1000))
            self.reply(200, event, {"Lambda-Runtime-Aws-Request-Id": "1", "Lambda-Runtime-Deadline-Ms": deadline})

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(202, {}, {})

        def reply(self, status: int, body: dict, headers: dict[str, str]) -> None:
            self.send_response(status)
            content = json.dumps(body).encode()
            arn = "arn:aws:lambda:us-east-1:123456789012:function:layergate"
            headers |= {"Content-Length": str(len(content)), "Lambda-Runtime-Invoked-Function-Arn": arn}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = environment | {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "layergate",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
    }
    process = subprocess.Popen([bootstrap], env=environment)
    try:
        return answers.get(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
