"""The way into `saescope`, which says what is not installed before it needs it."""

import sys

from app.dependencies import missing, not_installed


def main() -> None:
    """Run the command line."""
    try:
        from app.cli.commands import run

        run()
    except ModuleNotFoundError as error:
        sys.exit(f"saescope: {not_installed(missing() or [str(error.name)])}")


if __name__ == "__main__":
    main()
