"""A training run in a process of its own, for killing: prints a line for every report."""

import sys
from pathlib import Path

from tests.train.planted import random_sequences, spec
from worker.models import load_model
from worker.train.run import train


def main(model: Path, folder: Path, architecture: str) -> None:
    train(
        spec(architecture=architecture),
        load_model("planted", model),
        random_sequences(),
        checkpoint_dir=folder / "checkpoints",
        out_dir=folder / "sae",
        progress=lambda phase, done, *_: print(phase, int(done), flush=True),
        checkpoint_seconds=0.05,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
