"""All routes of this surface."""

from fastapi import APIRouter

from app.compat.neuronpedia import explanations, features, lists, models, unserved, vectors

ROUTERS: tuple[APIRouter, ...] = (
    features.router,
    models.router,
    unserved.router,
    explanations.router,
    lists.router,
    vectors.router,
)
