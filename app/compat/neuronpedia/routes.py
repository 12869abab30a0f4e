"""All routes of this surface, in the order in which they are tried: `explanation/export` before
`explanation/{id}`."""

from fastapi import APIRouter

from app.compat.neuronpedia import (
    activations,
    directions,
    explanations,
    features,
    lists,
    models,
    searches,
    steer,
    unserved,
    vectors,
)

ROUTERS: tuple[APIRouter, ...] = (
    features.router,
    models.router,
    unserved.router,
    explanations.router,
    lists.router,
    vectors.router,
    activations.router,
    searches.router,
    directions.router,
    steer.router,
)
LOOKUP = features.lookup
"""The hot one of them, which is tried before all others."""
