"""`kills that lost or doubled something`: precompute with commits to a SQLite shelf, in processes
that are killed with -9 at random moments, several times a shelf, and go on until they are done.
Each shelf must then hold, table by table and byte by byte, what an uninterrupted run leaves.

    python -m bench.kills [N=100] [--seed S]

Moments are drawn from the seed; where in the work one lands depends on the machine as well.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

from bench.report import promise, report


def main() -> None:
    """Kill, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.precompute.killed", folder, str(options.seed),
             str(options.kills)],
            stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    told = json.loads(done.stdout)
    table = Table("killed in", "times", title=f"{options.kills} kills, {told['shelves']} shelves")
    for phase, times in told["kills"].items():
        table.add_row(phase, str(times))
    Console().print(table)
    print(*told["wrong"], sep="\n", end="")
    config = f"{options.kills} kills, SQLite"
    promise("kills that lost or doubled something", config, told["suspect"], "<= 0")
    report()


if __name__ == "__main__":
    main()
