"""The API runs on a machine that has nothing of what runs models."""

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BROUGHT = {"pyyaml"}
"""Packages that come with one of the API's own."""
PROGRAM = """
import importlib, pkgutil, sys
blocked = set(sys.argv[1:])

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is for workers", name=name)

sys.meta_path.insert(0, Block())
import app
names = [m.name for m in pkgutil.walk_packages(app.__path__, "app.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def for_workers() -> list[str]:
    """Top-level modules of the packages of the extra `worker`, and ours."""
    needed = [Requirement(line) for line in requires("saescope") or []]
    only = [one for one in needed if one.marker and one.marker.evaluate({"extra": "worker"})]
    only = [one.name for one in only if not one.marker.evaluate({"extra": ""})]  # pyright: ignore
    assert "torch" in only
    return ["worker", *(name.replace("-", "_") for name in only if name not in BROUGHT)]


def test_every_module_of_the_api_is_imported_without_them() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *for_workers()],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 100
