"""Postgres asked from an event loop: connections that wait without holding a thread.

A thread a lookup would cost as much as the lookup: its two switches, and the turns at Python's lock.
"""

import asyncio
from typing import Any

from psycopg import AsyncConnection, Error, OperationalError
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import Dialect, QueuePool
from sqlalchemy import exc as sqlalchemy_errors

from app.store.engine import CONNECT_TIMEOUT_S, Shelf, connecting

ANSWER_TIMEOUT_S = 10
"""Seconds after which a server that has taken a statement counts as away."""


class AsyncReader:
    """A pool of connections to the database of a shelf, as large as the shelf's own; opened by the first
    statement."""

    def __init__(self, shelf: Shelf) -> None:
        engine = shelf.reader
        assert isinstance(engine.pool, QueuePool)
        self.dialect: Dialect = engine.dialect
        _, parameters = engine.dialect.create_connect_args(engine.url)
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] = AsyncConnectionPool(
            kwargs={**parameters, **connecting(f"{shelf.name} lookups"), "autocommit": True},
            min_size=1,
            max_size=engine.pool.size(),
            timeout=CONNECT_TIMEOUT_S,
            open=False,
        )

    async def first(self, sql: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        """The first row. SQLAlchemy's OperationalError when the server is away or silent."""
        if self._pool.closed:
            await self._pool.open()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._mended(sql, parameters)
        except (Error, TimeoutError) as error:
            raise sqlalchemy_errors.OperationalError(None, None, error) from error

    async def _mended(self, sql: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        """Once more with living connections, when one had died since it was last used."""
        try:
            return await self._once(sql, parameters)
        except PoolTimeout:
            raise
        except OperationalError:
            await self._pool.check()
            return await self._once(sql, parameters)

    async def _once(self, sql: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        async with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql.encode(), parameters)
            return await cursor.fetchone()

    async def close(self) -> None:
        """Close connections."""
        await self._pool.close()
