"""Which of the packages that saescope needs are not there. Standard library only, for that."""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires


def missing(extra: str = "") -> list[str]:
    """Names of packages that are required, with an extra, and not installed, by saescope's own
    metadata."""
    if not _installed("saescope"):
        return ["saescope"]
    other = re.compile(rf"extra == (?!['\"]{extra}['\"])")
    needed = [line for line in requires("saescope") or [] if not other.search(line)]
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in needed]
    return [name for name in names if not _installed(name)]


def not_installed(names: list[str]) -> str:
    """The sentence about missing packages."""
    return (
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed for "
        f"{sys.executable}; run `make install`, which makes an environment in .venv."
    )


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
