"""Installs saescope into .venv beside this file: `python3 install.py [--dev | --app]`. Standard library
only.

1. Make the virtual environment.
2. Choose the torch build: TORCH_INDEX when set; else what pip finds in its configured sources,
   unless that is a CUDA build and there is no NVIDIA driver: then the CPU index, when it answers.
3. Say which build it is and how large, before taking it.
4. Install exactly that file, and everything else within constraints.txt.

With --app, what runs the API alone: no torch, nothing to choose.
"""

from __future__ import annotations  # also an old Python shall get as far as its sentence

import argparse
import base64
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST = (3, 11)
TORCH = "torch>=2.7,<2.14"
CUDA_PACKAGE = re.compile(r"(nvidia|cuda|triton|pytorch[-_]triton)([-_]|\b)")


def main() -> None:
    """Install, or end with one sentence."""
    parser = argparse.ArgumentParser(description="Install saescope into .venv.")
    parser.add_argument("--dev", action="store_true", help="with what tests and checks need")
    parser.add_argument("--app", action="store_true", help="what the API needs, without torch")
    told = parser.parse_args()
    if sys.version_info < OLDEST:
        fail(f"saescope needs Python 3.11 or newer; this is {platform.python_version()}.")
    make_venv()
    install([] if told.app else ["worker", "dev"] if told.dev else ["worker"])
    say("Installed into .venv.")


def install(extras: list[str]) -> None:
    """Install saescope with extras; `worker` with a torch that is chosen."""
    torch = chosen_torch() if extras else []
    say("Installing everything else within constraints.txt ...")
    what = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    pip("install", "--quiet", "-c", str(CONSTRAINTS), *torch, "-e", what)


def chosen_torch() -> list[str]:
    """The torch to install; none where a fitting one is there."""
    kept = not os.environ.get("TORCH_INDEX") and has_torch()
    return [] if kept else [announced(choose_torch())]


def make_venv() -> None:
    """Create .venv with a pip that can report without downloading."""
    if not has_pip():
        say(f"Creating .venv with Python {platform.python_version()} ...")
        # Anew: an attempt without python3-venv leaves a .venv without pip behind.
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
        if made.returncode:
            fail("Python could not make .venv; on Debian and Ubuntu install python3-venv.")
    upgrade = [str(PYTHON), "-m", "pip", "install", "--quiet", "--upgrade", "pip"]
    subprocess.run(upgrade, check=False, capture_output=True)


def has_pip() -> bool:
    """Whether .venv is there, and has a pip."""
    try:
        command = [str(PYTHON), "-m", "pip", "--version"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def has_torch() -> bool:
    """Whether .venv has a torch that the constraints allow."""
    report = pip_report("--no-deps", "-c", str(CONSTRAINTS))
    return report == []


def choose_torch() -> Build:
    """The build to take."""
    index = os.environ.get("TORCH_INDEX")
    if index:
        return find(index) or fail(f"There is no fitting torch at TORCH_INDEX={shown(index)}.")
    found = find()
    if found and (not found.cuda or has_nvidia_driver()):
        return found
    say("There is no NVIDIA driver here, so the CPU build of torch is enough ...")
    cpu = find(CPU_INDEX) if answers(CPU_INDEX) else None
    return cpu or found or fail("pip finds no fitting torch; set TORCH_INDEX to an index with one.")


class Build:
    """A torch wheel: where it is, how large, and what it brings along."""

    def __init__(self, item: dict[str, Any], index: str | None) -> None:
        self.url = with_login(item["download_info"]["url"], index)
        self.index = index
        self.version: str = item["metadata"]["version"]
        requires = item["metadata"].get("requires_dist", [])
        self.cuda = any(CUDA_PACKAGE.match(r) and applies(r) for r in requires)

    @property
    def requirement(self) -> str:
        """What pip is told, so that it takes this file and no other."""
        return f"torch @ {self.url}"

    def size(self) -> int | None:
        """Bytes to fetch, the CUDA packages included; None when a server does not say."""
        urls = [self.url]
        if self.cuda:
            options = ("--ignore-installed", "-c", str(CONSTRAINTS))
            report = pip_report(*options, index=self.index)
            if report is None:
                return None
            urls += [
                with_login(item["download_info"]["url"], self.index)
                for item in report
                if CUDA_PACKAGE.match(item["metadata"]["name"])
            ]
        sizes = [size_of(url) for url in urls]
        return None if None in sizes else sum(size for size in sizes if size)


def find(index: str | None = None) -> Build | None:
    """The torch that pip would take, from `index` or from its configured sources."""
    report = pip_report("--no-deps", "--ignore-installed", "-c", str(CONSTRAINTS), index=index)
    return Build(report[0], index) if report else None


def announced(build: Build) -> str:
    """Tell what is about to be taken; returns the requirement."""
    size = build.size()
    kind = "CUDA" if build.cuda else "CPU"
    large = f"{size / 1e6:,.0f} MB" if size else "size unknown"
    brought = " with its CUDA packages" if build.cuda else ""
    say(f"Taking torch {build.version}, the {kind} build{brought}: {large} to fetch.")
    if not build.cuda and has_nvidia_driver():
        say("There is an NVIDIA driver: TORCH_INDEX=<a CUDA index> make install takes that build.")
    return build.requirement


def pip_report(*options: str, index: str | None = None) -> list[dict[str, Any]] | None:
    """What `pip install torch` would install; None when it finds nothing that fits."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["install", "--quiet", "--dry-run", "--report", str(report), *options, TORCH]
        env = dict(os.environ)
        if index:
            command += ["--index-url", index]
            env.update(PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="")
        ran = subprocess.run(
            [str(PYTHON), "-m", "pip", *command], check=False, env=env, capture_output=True
        )
        if ran.returncode:
            return None
        return json.loads(report.read_text())["install"]


def pip(*arguments: str) -> None:
    """Run pip; it says itself what went wrong."""
    if subprocess.run([str(PYTHON), "-m", "pip", *arguments], check=False).returncode:
        fail("pip could not install saescope; what it said is above.")


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA driver."""
    return Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))


def applies(requirement: str) -> bool:
    """Whether a requirement of torch is for this machine (markers name other systems)."""
    _, _, marker = requirement.partition(";")
    if "extra ==" in marker:
        return False
    system = re.search(r"(?:platform_system|sys_platform)\s*==\s*['\"](\w+)", marker)
    machine = re.search(r"platform_machine\s*==\s*['\"](\w+)", marker)
    return (not system or system[1].lower() == platform.system().lower()) and (
        not machine or machine[1] == platform.machine()
    )


def answers(url: str) -> bool:
    """Whether a server answers within five seconds."""
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=5, context=certificates()):
            return True
    except OSError:
        return False


def with_login(url: str, index: str | None) -> str:
    """The URL with user name and password of its index, which pip leaves out of its report."""
    parts, login = urlsplit(url), urlsplit(index or "").netloc.rpartition("@")
    if not login[0] or parts.netloc != login[2]:
        return url
    return parts._replace(netloc="".join(login)).geturl()


def size_of(url: str) -> int | None:
    """Bytes of a file on disk or on a server; None when the server does not say."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(url2pathname(parts.path))).stat().st_size
    try:
        request = urllib.request.Request(shown(url), method="HEAD")
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            request.add_header("Authorization", f"Basic {base64.b64encode(login).decode()}")
        with urllib.request.urlopen(request, timeout=20, context=certificates()) as answer:
            length = answer.headers.get("Content-Length")
            return int(length) if length else None
    except OSError:
        return None


def certificates() -> ssl.SSLContext:
    """The certificates that pip was told to trust, when it was told."""
    return ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))


def shown(url: str) -> str:
    """A URL without user name and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def say(sentence: str) -> None:
    print(sentence, flush=True)


def fail(sentence: str) -> NoReturn:
    sys.exit(f"install: {sentence}")


if __name__ == "__main__":
    main()
