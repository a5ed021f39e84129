"""Serves AWS, as far as a deployment needs it, at the port of this machine that is given."""

import sys

from tests.deploy.cloudformation import serve

serve(sys.argv[1])
