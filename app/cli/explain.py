"""`saescope explain-neuron`: which features a neuron is made of, in a terminal."""

import typer


def explain_neuron(
    model: str = typer.Argument(help="Id of the model.", metavar="MODEL"),
    layer: int = typer.Argument(min=0, max=10_000, help="Layer, from 0.", metavar="LAYER"),
    index: int = typer.Argument(min=0, help="Index of the neuron, from 0.", metavar="INDEX"),
    sae: str | None = typer.Option(
        None, help="SAE on the layer's mlp.hook_post; when absent the one that explains the most."
    ),
) -> None:
    """Show what a neuron is made of: its examples by the feature that explains them."""
    from app.cli.explained import tell
    from app.settings import Settings
    from app.store import neurons, read
    from app.store.engine import open_shelf
    from app.store.migrate import migrate
    from app.supervisor.checks import check_data_dir

    settings = Settings()
    check_data_dir(settings)
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    try:
        found = neurons.neuron(shelf, model, layer, index, sae)
        tell(found, read.vocabulary(shelf, model).display)
    finally:
        shelf.close()
