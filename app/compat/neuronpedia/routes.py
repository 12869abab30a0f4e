"""All routes of this surface."""

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
