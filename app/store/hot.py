"""Statements that run thousands of times a second.

SQLAlchemy's own execution costs five times what the driver and SQLite need for a row by key. A hot
statement is compiled once and then handed to the driver as it is; only when the driver refuses it
does SQLAlchemy run it again, to raise its error and mend the pool.
"""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Dialect, Engine, PoolProxiedConnection, Select
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from app.store.ask import AsyncReader

_CURSOR = "hot cursor"


class HotStatement:
    """A select of one row, outside of transactions."""

    def __init__(self, statement: Select) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any], list[str]]] = {}

    def first(self, reader: Engine, **values: Any) -> tuple | None:
        """The first row for those values of the statement's parameters."""
        sql, constants, order = self._for(reader.dialect)
        parameters = constants | values
        connection = _connected(reader)
        try:
            cursor = connection.info.get(_CURSOR) or _open_cursor(connection, reader.dialect)
            cursor.execute(sql, [parameters[name] for name in order] or parameters)
            # All rows, though there is one: SQLite would keep this moment's snapshot until then.
            return next(iter(cursor.fetchall()), None)
        except reader.dialect.loaded_dbapi.Error:
            with reader.connect() as mending:
                row = mending.execute(self._statement, values).first()
            return None if row is None else tuple(row)
        finally:
            connection.close()

    async def first_of(self, reader: "AsyncReader", **values: Any) -> tuple | None:
        """The same, asked without holding up the event loop."""
        sql, constants, _ = self._for(reader.dialect)
        return await reader.first(sql, constants | values)

    def _for(self, dialect: Dialect) -> tuple[str, dict[str, Any], list[str]]:
        """SQL, its constants, and the order of its parameters where they go by position."""
        if dialect.name not in self._compiled:
            compiled: Any = self._statement.compile(dialect=dialect)
            order = compiled.positiontup or []
            self._compiled[dialect.name] = (str(compiled), dict(compiled.params), order)
        return self._compiled[dialect.name]


def _connected(reader: Engine) -> PoolProxiedConnection:
    """A connection of the pool; when there is none to be had, SQLAlchemy's error."""
    try:
        return reader.raw_connection()
    except reader.dialect.loaded_dbapi.Error as error:
        raise OperationalError(None, None, error) from error


def _open_cursor(connection: PoolProxiedConnection, dialect: Dialect) -> Any:
    """A cursor that stays with its connection: making one takes psycopg as long as the query."""
    options: dict[str, Any] = {} if dialect.name == "sqlite" else {"binary": True}
    driver: Any = connection.dbapi_connection
    connection.info[_CURSOR] = driver.cursor(**options)
    return connection.info[_CURSOR]
