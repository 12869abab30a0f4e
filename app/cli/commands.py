"""All commands of `saescope`, and errors as one sentence with exit code 1."""

import sys

import typer
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError

from app.cli import catalog, data, explain, jobs, keys, service, submit
from app.console import fail
from app.errors import Problem

app = typer.Typer(
    help="Gets neurons out of superposition and serves what it finds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up")(service.up)
app.command("serve")(service.serve)
app.add_typer(service.worker, name="worker")
app.command("catalog")(catalog.catalog)
app.command("load")(submit.load)
app.command("train")(submit.train)
app.command("precompute")(submit.precompute)
app.command("evaluate")(submit.evaluate)
app.command("verify")(submit.verify)
app.command("import")(submit.import_)
app.command("export")(submit.export)
app.command("explain-neuron")(explain.explain_neuron)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.command("backup")(data.backup)
app.command("restore")(data.restore)
app.command("gc")(data.gc)


def run() -> None:
    """Run the command that was asked for."""
    try:
        app()
    except Problem as problem:
        fail(problem.detail)
    except ValidationError as error:
        fail(_invalid(error))
    except (OperationalError, InterfaceError) as error:
        fail(f"The database does not answer: {str(error.orig).strip().splitlines()[0]}")
    except OSError as error:
        fail(f"{error.filename or 'The system'}: {error.strerror or error}.")
    sys.exit(1)


def _invalid(error: ValidationError) -> str:
    """The first thing that is wrong with a setting or an option."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if error.title == "Settings":
        name = f"SAESCOPE_{name.upper()}"
    if first["type"] == "value_error":  # our own words, and the value may hold a password
        return f"{name}: {first['msg'].removeprefix('Value error, ')}."
    return f"{name} cannot be {first['input']!r}: {first['msg']}."
