"""Styles and scripts, under addresses that change with their content, so that browsers keep them.

A script may import another by its name alone, which then is looked for beside it: so all files have one
digest in their addresses, and all get new ones when one of them changes.
"""

from functools import cache
from hashlib import blake2b
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from app.errors import NotFound

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


def address(name: str) -> str:
    """Where a file of `static` is served."""
    return f"/static/{digest_of(FOLDER)}/{name}"


@cache
def digest_of(folder: Path) -> str:
    """Of the names and contents of a folder's files."""
    digest = blake2b(digest_size=6)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.hexdigest()


@cache
def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir() if path.suffix in _TYPES)


@router.get("/static/{digest}/{name}")
async def asset(digest: str, name: str) -> Response:
    """A file. A page of an older version may name an older digest: it gets what there is."""
    if name not in _names(FOLDER):
        raise NotFound(f"There is no file {name[:100]} here.")
    path = FOLDER / name
    kept = _FOR_EVER if digest == digest_of(FOLDER) else "no-cache"
    return FileResponse(path, headers={"Cache-Control": kept}, media_type=_TYPES[path.suffix])
