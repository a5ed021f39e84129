"""Turns a stack's outputs, as `sam list stack-outputs` prints them, into export lines: TableName into TABLE_NAME."""

import json
import re
import shlex
import sys

for output in json.load(sys.stdin):
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", output["OutputKey"]).upper()
    print(f"export {name}={shlex.quote(output['OutputValue'])}")
