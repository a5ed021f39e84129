"""The AWS CLI and boto3, in the versions of requirements.txt: installed into .clients for the tests that need them."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

from tests.local_stack import ROOT

HERE = Path(__file__).resolve().parent
INSTALLED = ROOT / ".clients"
PYTHON = INSTALLED / "python/bin/python"
AWS = INSTALLED / "python/bin/aws"


def install_once(folder: Path, wanted: Path, fill: Callable):
    """Empties the folder and has it filled, unless that was done for this very content of the file `wanted`."""
    stamp, digest = folder / "installed", hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fill()
    stamp.write_text(digest)


def install_python():
    """Installs the AWS CLI and boto3."""
    requirements = HERE / "requirements.txt"

    def fill():
        subprocess.run([sys.executable, "-m", "venv", INSTALLED / "python"], check=True)
        pip = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--requirement", requirements], check=True)

    install_once(INSTALLED / "python", requirements, fill)
