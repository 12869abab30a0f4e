"""All routes, under `/inference`."""

from fastapi import APIRouter

from app.compat.inference import (
    about,
    chat,
    everything,
    raw,
    single,
    source,
    steer,
    text,
    topk,
    unserved,
    util,
)

_PARTS = (about, single, everything, topk, source, raw, steer, chat, text, util, unserved)
ROUTERS: tuple[APIRouter, ...] = tuple(part.router for part in _PARTS)
