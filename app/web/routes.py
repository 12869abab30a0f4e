"""All pages."""

from fastapi import APIRouter

from app.web import assets, features, find, jobs, login, models, neurons, saes, steer, text

ROUTERS: tuple[APIRouter, ...] = (
    models.router,
    saes.router,
    features.router,
    neurons.router,
    find.router,
    text.router,
    jobs.router,
    steer.router,
    login.router,
    assets.router,
)
