"""All routes of this surface."""

from fastapi import APIRouter

from app.compat.neuronpedia import activations, directions, features, models, searches, steer

ROUTERS: tuple[APIRouter, ...] = (
    features.router,
    models.router,
    activations.router,
    searches.router,
    directions.router,
    steer.router,
)
