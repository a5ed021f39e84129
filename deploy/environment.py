"""An environment: the file that names every parameter of the template, with its value."""

import sys
import tomllib
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[1]


def template(path: Path = ROOT / "template.yaml") -> dict:
    return yaml_parse(path.read_text())


def parameters(file: Path) -> dict[str, str]:
    """The parameters of the environment, as CloudFormation takes them. Ends the program if they are not all of the
    template's and no others: one that is left out would keep the value of the deployment before.
    """
    try:
        given = tomllib.loads(file.read_text())
    except FileNotFoundError:
        sys.exit(f"{file} does not exist; copy environments/default.toml and change what shall differ")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        sys.exit(f"{file} is not TOML: {error}")
    declared = template()["Parameters"]
    if missing := declared.keys() - given.keys():
        sys.exit(f"{file} lacks {', '.join(sorted(missing))}; environments/default.toml has the usual values")
    if unknown := given.keys() - declared.keys():
        sys.exit(f"{file} sets {', '.join(sorted(unknown))}, which template.yaml does not have; remove or rename it")
    return {name: str(value) for name, value in given.items()}


if __name__ == "__main__":
    parameters(Path(sys.argv[1]))
