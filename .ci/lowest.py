"""Print the lowest supported version of every dependency, as constraints for pip.

The floors are read out of pyproject.toml, so that what is promised is what is tested.
Extras to include are named on the command line.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_versions(project: dict, extras: list[str]) -> dict[str, str]:
    """Map the name of each dependency to its floor."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    floors = {}
    for requirement in map(Requirement, lines):
        if requirement.name == project["name"]:  # an extra that includes another
            floors |= lowest_versions(
                {**project, "dependencies": []}, sorted(requirement.extras)
            )
            continue
        allowed = [s for s in requirement.specifier if s.operator in (">=", "==")]
        versions = [s.version for s in allowed]
        if len(versions) != 1:
            sys.exit(f"{requirement} in pyproject.toml needs one lowest version.")
        floors[requirement.name] = versions[0]
    return floors


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    for name, version in lowest_versions(project, sys.argv[1:]).items():
        print(f"{name}=={version}")
