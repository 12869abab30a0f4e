"""The pictures in docs/pages, taken anew."""

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.flow.conftest import on_sqlite
from tests.flow.service import Service
from tests.web.browser import find
from tests.web.shots import FOLDER, SHOTS

pytestmark = [pytest.mark.timeout(600), on_sqlite]
MOST_BYTES = 300_000


def test_all_pages_can_be_taken_and_are_in_the_docs(service: Service, tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        find(playwright.chromium.executable_path)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.web.shots", service.url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    names = {f"{shot.name}.png" for shot in SHOTS}
    assert {one.name for one in tmp_path.iterdir()} == names
    assert {one.name for one in FOLDER.iterdir()} == names
    for name in names:
        new, kept = (size_of(folder / name) for folder in (tmp_path, FOLDER))
        assert new == kept
        assert (FOLDER / name).stat().st_size < MOST_BYTES


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
