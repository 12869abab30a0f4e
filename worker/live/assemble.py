"""The live worker's parts, put together from the settings."""

import torch
from starlette.applications import Starlette

from app.settings import Settings
from app.store.engine import open_shelf
from worker.live.library import Library
from worker.live.server import create_server
from worker.live.service import LiveService
from worker.models import resolve_device


def assemble(settings: Settings, token: str) -> Starlette:
    """The server over the shelf, on the device and in the number format of the settings."""
    library = Library(
        open_shelf(settings.shelf_url, "saescope live", settings.database_pool),
        resolve_device(settings.live_device),
        getattr(torch, settings.dtype),
    )
    return create_server(LiveService(library, settings), token)
