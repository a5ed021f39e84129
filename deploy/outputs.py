"""Turns a stack's outputs, as `sam list stack-outputs` prints them, into export lines: TableName into TABLE_NAME."""

import json
import re
import shlex
import sys

# Empty if there is no stack: sam has said so.
for output in json.loads(sys.stdin.read() or sys.exit(1)):
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", output["OutputKey"]).upper()
    print(f"export {name}={shlex.quote(output['OutputValue'])}")
