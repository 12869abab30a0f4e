"""All routes of this surface."""

from fastapi import APIRouter

from app.compat.neuronpedia import features, models

ROUTERS: tuple[APIRouter, ...] = (features.router, models.router)
