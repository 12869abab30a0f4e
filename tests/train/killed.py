"""A training run in a process of its own, for killing: prints a line for every report."""

import sys
from pathlib import Path

from tests.train.planted import random_sequences, spec
from worker.models import load_model
from worker.train.run import train_all
from worker.train.several import each

ALSO = [{"sae": "1-mlp", "hook_name": "blocks.1.mlp.hook_post", "architecture": "standard"}]


def main(model: Path, folder: Path, several: bool) -> None:
    wanted = spec(also=ALSO if several else [])
    train_all(
        wanted,
        load_model("planted", model),
        random_sequences(),
        checkpoint_dir=folder / "checkpoints",
        out_dirs=[folder / "saes" / one.sae for one in each(wanted)],
        progress=lambda phase, done, *_: print(phase, int(done), flush=True),
        checkpoint_seconds=0.05,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "several")
