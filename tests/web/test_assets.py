"""Styles and scripts are kept for ever under an address, which changes with any of them."""

import re
import shutil
from pathlib import Path

from app.web.assets import FOLDER, address, digest_of
from tests.openapi.place import Place
from tests.web.conftest import together

pytestmark = together
IMPORT = re.compile(rb'^import .* from "\./([a-z]+\.js)";$', re.MULTILINE)


def test_a_file_is_kept_for_ever_under_its_address(place: Place) -> None:
    answer = place.server.client.get(address("app.js"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.content == (FOLDER / "app.js").read_bytes()


def test_a_page_of_another_version_gets_what_there_is_and_does_not_keep_it(place: Place) -> None:
    answer = place.server.client.get("/static/0123456789ab/app.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


def test_what_a_script_imports_lies_beside_it_under_the_same_digest(place: Place) -> None:
    scripts = [path.name for path in FOLDER.glob("*.js")]
    imported = {
        name.decode()
        for script in scripts
        for name in IMPORT.findall((FOLDER / script).read_bytes())
    }
    assert len(imported) > 2
    for name in imported:
        assert place.server.client.get(address("app.js").replace("app.js", name)).is_success


def test_every_change_of_a_file_changes_the_digest(tmp_path: Path) -> None:
    digests = {digest_of(FOLDER)}
    for n, (name, add) in enumerate([("stream.js", b"//"), ("new.js", b""), ("app.css", b"x")], 2):
        folder = shutil.copytree(FOLDER, tmp_path / str(n))
        with (folder / name).open("ab") as file:
            file.write(add)
        digests.add(digest_of(folder))
        assert len(digests) == n
    same = shutil.copytree(FOLDER, tmp_path / "same")
    assert digest_of(same) in digests


def test_there_are_no_other_files(place: Place) -> None:
    for name in ("no.js", "htmx.LICENSE", "..", "%2e%2e%2fassets.py", "app.js%00"):
        answer = place.server.client.get(f"/static/x/{name}")
        assert answer.status_code == 404, name
