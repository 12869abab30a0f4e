"""All pages."""

from fastapi import APIRouter

from app.web import assets, features, models, saes, steer

ROUTERS: tuple[APIRouter, ...] = (
    models.router,
    saes.router,
    features.router,
    steer.router,
    assets.router,
)
