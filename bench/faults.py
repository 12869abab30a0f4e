"""`wrong answers and lost jobs`: `saescope up` under load, one of its processes killed with -9 at random
again and again, the supervisor among them.

Callers ask for features, pages, activations and steered text, of which the right answers are known, and
submit jobs. Each answer is right, or says that there is none now; each acknowledged job is done in the end;
whoever says that it is ready answers at once.

    python -m bench.faults [N=100] [--seed S]

A kill takes half a minute on two cores, most of it for Python to import torch again.
"""

import argparse
import secrets
import tempfile
import time
from pathlib import Path

from bench.report import promise, report
from tests.flow.faults import rounds
from tests.flow.service import Service


def main() -> None:
    """Kill, ask, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "data", Path(folder)).start()
        try:
            service.wait_ready()
            began = time.monotonic()
            load = rounds(service, options.kills, options.seed)
            seconds, lost = time.monotonic() - began, load.lost()
        finally:
            service.stop()
    print(f"{seconds:.0f} s; {len(load.jobs)} jobs; {dict(sorted(load.told.items()))}")
    print(*load.wrong, *lost, sep="\n", end="")
    config = f"{options.kills} kills, SQLite"
    promise("wrong answers and lost jobs", config, len(load.wrong) + len(lost), "<= 0")
    report()


if __name__ == "__main__":
    main()
