"""All pages."""

from fastapi import APIRouter

from app.web import assets, features, models, saes

ROUTERS: tuple[APIRouter, ...] = (
    models.router,
    saes.router,
    features.router,
    assets.router,
)
