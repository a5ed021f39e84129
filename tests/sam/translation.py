"""What SAM makes of template.yaml."""

import os
from pathlib import Path

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]

# Only to fill in ARNs: nothing is called.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")


def translated(**parameters: str) -> dict:
    """The resources that SAM makes with these parameters, and with the others' defaults."""
    template = yaml_parse((ROOT / "template.yaml").read_text())
    # As `sam deploy` does, once it has uploaded the function.
    for name in ("Function", "Worker"):
        template["Resources"][name]["Properties"]["CodeUri"] = f"s3://bucket/{name}.zip"
    return Translator({}, Parser()).translate(template, parameters)["Resources"]


def only(resources: dict, kind: str) -> dict:
    [found] = [resource for resource in resources.values() if resource["Type"] == kind]
    return found["Properties"]
