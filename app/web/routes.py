"""All pages."""

from fastapi import APIRouter

from app.web import assets, features, find, jobs, models, neurons, saes, text

ROUTERS: tuple[APIRouter, ...] = (
    models.router,
    saes.router,
    features.router,
    neurons.router,
    find.router,
    text.router,
    jobs.router,
    assets.router,
)
