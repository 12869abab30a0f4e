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

router = APIRouter(prefix="/inference")
for _part in (about, single, everything, topk, source, raw, steer, chat, text, util, unserved):
    router.include_router(_part.router)
