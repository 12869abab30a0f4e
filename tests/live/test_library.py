"""What stays in memory, and what goes when there is no room."""

import weakref

import pytest
import torch

from app.store import write
from app.store.engine import Shelf
from tests.live.process import register
from tests.live.world import World, run
from worker.live.library import Library
from worker.live.resident import Held

CPU = torch.device("cpu")
SAE_BYTES = 4 * (2 * 32 * 96 + 32 + 96)
"""Of a standard or TopK SAE of the tiny models."""


@pytest.fixture
def shelf(sqlite_shelf: Shelf, world: World, llama: World) -> Shelf:
    for one in (world, llama):
        register(sqlite_shelf, one)
    return sqlite_shelf


def load(library: Library, world: World, *saes: str, engine: bool = False) -> Held:
    held = library.current(world.id, [*saes], engine)
    return held or library.load(library.look_up(world.id, [*saes], engine))


def saes_of(library: Library, world: World) -> list[str]:
    return sorted(library.residents[world.id].dictionaries)


def model_bytes(shelf: Shelf, world: World, engine: bool = False) -> int:
    """Measured by loading it."""
    return load(Library(shelf, CPU, torch.float32), world, engine=engine).resident.n_bytes


def test_bytes_are_those_of_the_tensors(shelf: Shelf, world: World) -> None:
    held = load(Library(shelf, CPU, torch.float32), world, "1-standard", "1-mlp")
    assert held.resident.n_bytes == sum(p.nbytes for p in held.resident.model.hf.parameters())
    bytes_of = {name: one.n_bytes for name, one in held.resident.dictionaries.items()}
    assert bytes_of == {"1-standard": SAE_BYTES, "1-mlp": 0}
    assert [*held.dictionaries] == ["1-standard", "1-mlp"]


def test_the_model_used_least_recently_goes_with_its_memory(
    shelf: Shelf, world: World, llama: World
) -> None:
    budget = model_bytes(shelf, world, engine=True) + model_bytes(shelf, llama) // 2
    library = Library(shelf, CPU, torch.float32, budget)
    held = load(library, world, "1-standard", engine=True)
    run(held, world.generation(held, "x"))
    weights = weakref.ref(held.resident.model.hf)
    del held
    load(library, llama)
    assert [*library.residents] == [llama.id]
    assert weights() is None
    again = load(library, world, "1-standard", engine=True)
    run(again, generation := world.generation(again, "x"))
    assert len(generation.answers[0].tokens) == 12


def test_what_a_request_holds_stays(shelf: Shelf, world: World, llama: World) -> None:
    library = Library(shelf, CPU, torch.float32, budget=1)
    held = load(library, world, "1-standard")
    first, *others = (load(library, llama, sae) for sae in ("1-topk", "1-gated"))
    assert saes_of(library, world) == ["1-standard"]
    assert saes_of(library, llama) == ["1-gated", "1-topk"]
    del held, others
    load(library, llama, "1-jumprelu")
    assert [*library.residents] == [llama.id]
    assert saes_of(library, llama) == ["1-jumprelu", "1-topk"]
    assert library.residents[llama.id] is first.resident


def test_saes_go_before_their_model_in_the_order_of_their_use(shelf: Shelf, world: World) -> None:
    budget = model_bytes(shelf, world) + 2 * SAE_BYTES
    library = Library(shelf, CPU, torch.float32, budget)
    for sae in ("1-standard", "1-topk", "1-standard"):
        load(library, world, sae)
    model = library.residents[world.id]
    load(library, world, "1-abstopk")
    assert saes_of(library, world) == ["1-abstopk", "1-standard"]
    assert library.residents[world.id] is model


def test_half_of_the_memory_is_plenty_for_tiny_models(
    shelf: Shelf, world: World, llama: World
) -> None:
    library = Library(shelf, CPU, torch.float32)
    for one in (world, llama):
        for sae in ("1-standard", "1-topk", "1-gated"):
            load(library, one, sae)
    assert sorted(library.residents) == sorted([world.id, llama.id])
    assert len(saes_of(library, world)) == 3


def test_what_is_current_is_what_is_held(shelf: Shelf, world: World) -> None:
    """The quick answer, in front of and behind every change on the shelf."""
    library, saes = Library(shelf, CPU, torch.float32), ["1-post", "1-mlp"]
    assert library.current(world.id, saes, engine=False) is None
    load(library, world, *saes)
    held = library.current(world.id, saes, engine=False)
    assert held and list(held.dictionaries) == saes
    assert library.current(world.id, saes, engine=True) is None
    assert library.current(world.id, [*saes, "1-z"], engine=False) is None
    load(library, world, *saes, engine=True)
    assert library.current(world.id, saes, engine=True)
    write.delete_sae(shelf, world.id, "1-post")
    assert library.current(world.id, saes, engine=True) is None
    assert library.current(world.id, ["1-mlp"], engine=True)
    write.delete_model(shelf, world.id)
    assert library.current(world.id, ["1-mlp"], engine=True) is None
