"""Which tokens a request becomes: BOS as the SAEs were trained, else as the model wants it."""

from typing import Any

import pytest

from app.contract.live import ActivationsRequest
from app.errors import Invalid, TooLarge
from app.settings import Settings
from tests.live.world import SITES, TEXTS, World, entry
from tests.worker.tiny import save_model, save_sae
from worker.live.prepare import prepare_capture


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model with an SAE that was trained with BOS, one without, one that does not say."""
    folder = tmp_path_factory.mktemp("trained")
    saes = {
        f"1-{name}": save_sae(
            folder / name, hook_name=SITES["post"], metadata={"prepend_bos": prepend_bos}
        )
        for name, prepend_bos in (("with", True), ("without", False), ("silent", None))
    }
    return World("tiny", save_model(folder / "model"), saes)


def captured(world: World, *saes: str) -> list[int]:
    request = ActivationsRequest(model=world.id, saes=list(saes), texts=[TEXTS[0]])
    return prepare_capture(request, world.held(*saes), Settings()).texts[0]


def steered(world: World, *saes: str, **request: Any) -> list[int]:
    interventions = [entry(sae=sae, feature=0) for sae in saes]
    held = world.held(*saes)
    made = world.generation(held, TEXTS[0], interventions=interventions, baseline=True, **request)
    prompts = [answer.prompt for answer in made.answers]
    assert len(prompts) == 2 and prompts[0] == prompts[1]
    return prompts[0]


@pytest.mark.parametrize(("saes", "bos"), [
    (["1-with"], True),
    (["1-without"], False),
    (["1-silent"], True),
    (["2-mlp"], True),
    (["1-without", "2-mlp", "1-silent"], False),
    (["1-with", "2-mlp"], True),
])  # fmt: skip
def test_bos_as_the_saes_were_trained(trained: World, saes: list[str], bos: bool) -> None:
    for ids in (captured(trained, *saes), steered(trained, *saes)):
        assert (ids[0] == trained.model.bos_id) is bos


def test_saes_that_differ_are_steered_together_on_the_models_tokens(trained: World) -> None:
    saes = ["1-without", "1-with"]
    assert steered(trained, *saes)[0] == trained.model.bos_id
    assert steered(trained)[0] == trained.model.bos_id
    with pytest.raises(Invalid, match="need different tokens; ask for them separately"):
        captured(trained, *saes)


def test_texts_behind_too_many_tokens_are_not_looked_at(trained: World) -> None:
    """The third would be refused for its own length."""
    texts = [TEXTS[1], TEXTS[1], "salt " * 200]
    request = ActivationsRequest(model=trained.id, saes=["1-with"], texts=texts)
    held = trained.held("1-with")
    with pytest.raises(TooLarge, match=r"up to texts\[1\] have \d+ tokens .* may have 20"):
        prepare_capture(request, held, Settings(max_request_tokens=20))
    with pytest.raises(Invalid, match=r"texts\[2\] has \d+ tokens; tiny reads 64 at most"):
        prepare_capture(request, held, Settings())


def test_an_answer_with_too_many_values_is_refused(trained: World) -> None:
    """Of an SAE with 96 features and neurons of which two are asked for."""
    saes, features = ["1-with", "2-mlp"], {"2-mlp": [3, 5]}
    request = ActivationsRequest(
        model=trained.id, saes=saes, texts=[TEXTS[1]], features=features, top_k=200
    )
    held = trained.held(*saes)
    tokens = len(prepare_capture(request, held, Settings(max_values=2_000)).texts[0])
    with pytest.raises(
        TooLarge, match=f"{tokens * 98} values, for {tokens} tokens and 98 features"
    ):
        prepare_capture(request, held, Settings(max_values=tokens * 98 - 1))
