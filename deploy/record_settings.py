"""Puts what each function is configured with into what `sam build` has built of it.

SAM publishes a version, and moves the alias to it, if the text of the template or the code has changed. A changed
parameter changes neither (https://github.com/aws/serverless-application-model/issues/3820). With its value in a file
beside the program it changes the code; so that the version is always a new one to Lambda, too, which publishes none
of a function that has not changed.
"""

import json
import re
import sys
from pathlib import Path

from environment import ROOT, parameters, template

# Of the function, its alias or what calls it, and of no version.
NOT_OF_A_VERSION = {"DeploymentPreference", "Events", "ProvisionedConcurrencyConfig", "ReservedConcurrentExecutions"}

BUILT = ROOT / ".aws-sam/build"


def names_in(value: object) -> set[str]:
    """Every name in a part of the template that may be one of a parameter or a condition."""
    return set(re.findall(r"\w+", json.dumps(value)))


def settings(function: dict, conditions: dict, values: dict[str, str]) -> dict[str, str]:
    """The parameters that a version of the function depends on."""
    names = names_in({key: value for key, value in function.items() if key not in NOT_OF_A_VERSION})
    for condition in names & conditions.keys():
        names |= names_in(conditions[condition])
    return {name: values[name] for name in sorted(names & values.keys())}


def record(values: dict[str, str]) -> None:
    source = template()
    built = template(BUILT / "template.yaml")["Resources"]
    for name, resource in source["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = resource["Properties"]
            used = settings(properties, source.get("Conditions", {}), values)
            file = BUILT / built[name]["Properties"]["CodeUri"] / f"{name}.json"
            # The text too: where it changes alone, SAM makes a version, and it must be new to Lambda.
            file.write_text(json.dumps({"parameters": used, "properties": properties}, indent=1, sort_keys=True))


if __name__ == "__main__":
    record(parameters(Path(sys.argv[1])))
