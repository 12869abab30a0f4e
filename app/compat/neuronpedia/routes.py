"""All routes of this surface."""

from fastapi import APIRouter

from app.compat.neuronpedia import features, lists, models, vectors

ROUTERS: tuple[APIRouter, ...] = (
    features.router,
    models.router,
    lists.router,
    vectors.router,
)
