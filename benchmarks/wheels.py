"""Wheels for a machine without a network that has torch: `python benchmarks/wheels.py FOLDER [-- PIP ARGUMENTS]`.

What the package and its tests need, with what that needs in turn, in the versions that are installed here; torch, and
what only torch brings, is left out. Another Python or system is named to pip: `-- --python-version 3.12
--platform manylinux_2_28_x86_64 --only-binary=:all:`. What the machine has already is left out with `--without`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

_WANTED = ("ptycho-core", "pytest", "hypothesis")
_THERE = frozenset({"ptycho-core", "torch", "triton", "setuptools"})


def main() -> None:
    """Download them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="such as numpy scipy")
    parser.add_argument("--list", action="store_true", help="only say which")
    arguments, _, for_pip = _parted(sys.argv[1:])
    asked = parser.parse_args(arguments)
    named = needed(frozenset(asked.without))
    print("\n".join(named))
    if not asked.list:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(asked.folder)]
        subprocess.run([*command, *for_pip, *named], check=True)


def needed(without: frozenset[str]) -> list[str]:
    """Name all requirements with their versions here, those of torch left out."""
    found: dict[str, str] = {}
    left = list(_WANTED)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found or (name in _THERE | without and name != "ptycho-core"):
            continue
        found[name] = importlib.metadata.version(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    del found["ptycho-core"]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _parted(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in arguments:
        return arguments, "", []
    where = arguments.index("--")
    return arguments[:where], "--", arguments[where + 1 :]


if __name__ == "__main__":
    main()
