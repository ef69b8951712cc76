"""The oldest release of every dependency that pyproject.toml allows, as constraints for pip.

    python tools/oldest.py > oldest.txt
    pip install -c oldest.txt -e ".[test]"

A newer Python may have no wheel of so old a release: these are for the oldest Python that the pack supports.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NOT_CONSTRAINED = {"torch"}  # run.py asks for one exact version
OF_TESTS = {"diffusers"}  # its newest release does not work with the oldest transformers


def bounds(project: dict) -> dict[str, Version]:
    """name -> lower bound of everything the pack imports, and of OF_TESTS.

    Raises ValueError for one without a lower bound.
    """
    found = {}
    tests = [text for text in project["optional-dependencies"]["test"] if Requirement(text).name in OF_TESTS]
    for text in [*project["dependencies"], *tests]:
        needed = Requirement(text)
        lower = [item.version for item in needed.specifier if item.operator == ">="]
        if len(lower) != 1:
            raise ValueError(f"pyproject.toml: {text!r} has {len(lower)} lower bounds; one, as >=1.2, works")
        found[needed.name] = Version(lower[0])
    return found


def render(project: dict) -> str:
    """The constraints: the newest fix of the oldest release, `1.2` -> `1.2.*`, `1.2.3` -> `1.2.3`."""
    lines = []
    for name, lower in bounds(project).items():
        if name not in NOT_CONSTRAINED:
            lines.append(f"{name}=={lower}" if len(lower.release) > 2 else f"{name}=={lower}.*")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]), end="")
