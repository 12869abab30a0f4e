"""What a rank of edits keeps between steps."""

from dataclasses import replace

import torch

from tests.live.world import World
from worker.live.hooks import Steering
from worker.live.plan import RECORDED_RANKS
from worker.live.rank import Rank
from worker.live.sharing import Sharing
from worker.live.steering import DECODE, PREFILL, Edit, Terms


def clamp(world: World, sae: str, feature: int, phases: tuple[bool, bool] = (True, True)) -> Edit:
    dictionary = world.dictionary(sae)
    direction = dictionary.directions(torch.tensor([feature]))[0]
    return Edit("hook", direction, Terms(read=-1.0), phases, dictionary, feature)


def test_who_reads_is_worked_out_when_a_row_joins_or_leaves(world: World) -> None:
    rank = Rank(slots=4, width=32, device=torch.device("cpu"))
    rank.put(0, clamp(world, "1-post", 5))
    rank.put(1, clamp(world, "1-standard", 5, phases=(True, False)))
    rank.put(2, clamp(world, "1-post", 2))
    (reader,) = rank.readers(slice(0, 3), DECODE)
    assert reader.members == [0, 2]
    assert rank.readers(slice(0, 3), DECODE)[0] is reader
    assert [r.members for r in rank.readers(slice(1, 3), PREFILL)] == [[0], [1]]
    rank.put(2, None)
    assert [r.members for r in rank.readers(slice(0, 2), DECODE)] == [[0]]


def test_a_reader_gives_each_row_its_own_feature(world: World) -> None:
    rank = Rank(slots=4, width=32, device=torch.device("cpu"))
    features = [90, 2, 5, 2]
    for row, feature in enumerate(features):
        rank.put(row, clamp(world, "1-standard", feature))
    x = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0))
    (reader,) = rank.readers(slice(0, 4), DECODE)
    columns = world.dictionary("1-standard").encode_columns(
        x.flatten(0, 1), torch.tensor([2, 5, 90])
    )
    right = columns.view(4, 3, 3)[range(4), :, [2, 0, 1, 0]]
    assert right.count_nonzero() > 0
    assert torch.equal(reader.read(x), right)


def test_ranks_that_nobody_uses_any_more_go(world: World) -> None:
    steering = Steering(world.model, slots=4, sharing=Sharing(world.model))
    hook = "blocks.1.hook_resid_post"
    edits = tuple(replace(clamp(world, "1-post", i), hook=hook) for i in range(5))
    steering.put(0, edits)
    steering.put(1, edits[:3])
    steering.put(0, ())
    assert len(steering._sites[hook].ranks) == 3
    steering.put(1, ())
    assert len(steering._sites[hook].ranks) == RECORDED_RANKS
