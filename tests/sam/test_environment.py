"""The files of environments/, and what is said of one that cannot be deployed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
DEFAULT = (ROOT / "environments/default.toml").read_text()


def check(file: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "deploy/environment.py", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("file", sorted((ROOT / "environments").iterdir()), ids=lambda file: file.name)
def test_an_environment_names_every_parameter(file: Path) -> None:
    done = check(file)
    assert done.returncode == 0, done.stderr


def test_the_default_environment_has_the_templates_defaults() -> None:
    declared = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    given = tomllib.loads(DEFAULT)
    # `make deploy` looks before it creates; a deployment without it must not.
    assert {name for name in given if given[name] != declared[name]["Default"]} == {"ApiLogsRole"}


CASES = [
    ("a parameter is missing", DEFAULT.replace("CacheSeconds = 10\n", ""), "lacks CacheSeconds; "),
    ("a parameter is unknown", DEFAULT + "CacheMinutes = 1\n", "sets CacheMinutes, which template.yaml "),
    ("it is not TOML", DEFAULT + "CacheSeconds\n", "is not TOML: "),
    ("there is none", None, "does not exist; "),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_environment_that_cannot_be_deployed(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "staging.toml"
    if text is not None:
        file.write_text(text)
    done = check(file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file} {message}") and done.stderr.count("\n") == 1, done.stderr
