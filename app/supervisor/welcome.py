"""What `saescope up` says when it is ready: what to look at, and three calls that work."""

import json
import time
from collections.abc import Callable
from urllib.request import ProxyHandler, build_opener

from app.contract.bundled import BUNDLED_MODEL
from app.errors import NotFound
from app.settings import Settings
from app.store import read
from app.store.engine import Shelf
from app.supervisor.first_start import Stopped, bundled_saes

ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
RARE = 0.02
"""Density below which a feature is likely to stand for something."""


def api_url(settings: Settings) -> str:
    """Where the API can be reached from this machine, under a name that it answers for."""
    loopback = ANYWHERE.get(settings.bound_host)
    allowed = {loopback, "*"} & set(settings.allowed_hosts)
    return f"http://{loopback if loopback and allowed else settings.bound_host}:{settings.port}"


def when_ready(settings: Settings, path: str, stopping: Callable[[], bool]) -> None:
    """Wait until `path` answers 200. Raises `Stopped` when `stopping` became true."""
    while not _answers(api_url(settings) + path):
        if stopping():
            raise Stopped
        time.sleep(0.2)


def welcome(settings: Settings, shelf: Shelf) -> str:
    """Pages to look at and three calls to try."""
    url = api_url(settings)
    look = [url]
    calls = [_curl(url, "/v1/models")]
    found = _a_feature(shelf)
    if found:
        sae, feature = found
        look += [f"{url}/models/{BUNDLED_MODEL}/saes/{sae}/features/{feature}"]
        calls = [
            _curl(url, f"/v1/models/{BUNDLED_MODEL}/saes/{sae}/features/{feature}"),
            _curl(
                url,
                "/v1/activations",
                {"model": BUNDLED_MODEL, "saes": [sae], "texts": ["Once upon a time"], "top_k": 3},
            ),
            _curl(
                url,
                "/v1/steer",
                {
                    "model": BUNDLED_MODEL,
                    "prompt": "Once upon a time",
                    "steering": [{"sae": sae, "feature": feature, "strength": 1.5}],
                },
            ),
        ]
    pages, asked = ("".join(f"\n  {one}" for one in some) for some in (look, calls))
    return f"Ready at {url}. Look, in a browser:{pages}\nOr ask:{asked}"


def _a_feature(shelf: Shelf) -> tuple[str, int] | None:
    """A feature of a bundled SAE that fires now and then, and strongly."""
    for sae in bundled_saes():
        try:
            page = read.features(
                shelf,
                BUNDLED_MODEL,
                sae,
                sort="max_activation",
                order="desc",
                ranges=read.Ranges(density_max=RARE),
                limit=1,
            )
        except NotFound:
            continue
        if page.items:
            return sae, page.items[0].index
    return None


def _curl(url: str, path: str, body: dict[str, object] | None = None) -> str:
    if body is None:
        return f"curl {url}{path}"
    return f"curl {url}{path} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"


def _answers(url: str) -> bool:
    # A proxy of the machine is not for the way to our own API.
    direct = build_opener(ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
