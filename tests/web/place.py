"""The service whose pages are tested: the one that the API document's examples are run in
(`tests.openapi.place`), evidence of an SAE of its other model, and two SAEs of the bundled model that
pages have trouble with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.store import write
from tests.live.process import put_evidence, sae_record
from tests.live.world import World
from tests.openapi.place import CHATTY, Place, running
from worker.jobs.paths import DEMO

HOSTILE = "2-hostile"
"""An SAE whose first features have the labels `LABELS`."""
LABELS = (
    "hostile <script>document.title='owned'</script>",
    "hostile \"><img src=x onerror=document.title='owned'>",
    "hostile ' onmouseover='alert(1)' x='",
    "hostile {{ 7 * 7 }} ${7*7} </template></script></ul>",
    "hostile \u202eelddim eht ni snrut\u202c \u200b\u0007\n\r\t end",
    "hostile " + "unbroken" * 40,
    "hostile é\u0301\u0302\u0303\u0304 שלום 🏳️‍🌈 &amp;&lt;b&gt;",
)
OTHER = "1-post"
"""The SAE of the model `CHATTY` that has evidence."""
STUCK, REASON = "2-stuck", "it reads <b>inside</b> attention"
"""An SAE that cannot be steered, and why."""
LONGEST = 200
"""New tokens that an answer may have: enough for a generation that can be stopped."""


@contextmanager
def pages(folder: Path, chatty: World) -> Iterator[Place]:
    """The running service; it ends with the block."""
    with running(folder, chatty, SAESCOPE_MAX_NEW_TOKENS=str(LONGEST)) as place:
        put_evidence(place.live.shelf, replace(chatty, id=CHATTY), OTHER, n_sequences=1)
        _put_troublesome(place)
        yield place


def _put_troublesome(place: Place) -> None:
    same = DEMO / "saes" / BUNDLED_SAES[0]
    world = World(BUNDLED_MODEL, DEMO / "storyworld", {HOSTILE: same, STUCK: same})
    write.put_sae(place.live.shelf, sae_record(world, HOSTILE))
    stuck = replace(sae_record(world, STUCK), steerable=False, steerable_reason=REASON)
    write.put_sae(place.live.shelf, stuck)
    put_evidence(place.live.shelf, world, HOSTILE, n_sequences=1, labels=LABELS)
    put_evidence(place.live.shelf, world, STUCK, n_sequences=1)
