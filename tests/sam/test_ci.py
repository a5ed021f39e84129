"""`.ci/run` and the workflow list the same make targets."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_workflow_runs_the_targets_of_ci_run() -> None:
    script = (ROOT / ".ci/run").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    listed = workflow["jobs"]["make"]["strategy"]["matrix"]["target"]
    assert listed == re.findall(r"^make ([a-z-]+)$", script, re.MULTILINE)
