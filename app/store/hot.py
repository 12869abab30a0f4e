"""Statements that run thousands of times a second.

SQLAlchemy's own execution costs five times what the driver and SQLite need for a row by key. A hot
statement is compiled once and then handed to the driver as it is.
"""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Dialect, Engine, Select

if TYPE_CHECKING:
    from app.store.ask import AsyncReader


class HotStatement:
    """A select of one row, outside of transactions."""

    def __init__(self, statement: Select) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any], list[str]]] = {}

    def first(self, reader: Engine, **values: Any) -> tuple | None:
        """The first row for those values of the statement's parameters."""
        with reader.connect() as connection:
            row = connection.execute(self._statement, values).first()
        return None if row is None else tuple(row)

    def first_of_file(self, reader: Engine, **values: Any) -> tuple | None:
        """The same, from SQLite. Only when the driver refuses it does SQLAlchemy run it again, to
        raise its error and mend the pool."""
        sql, constants, order = self._for(reader.dialect)
        parameters = constants | values
        try:
            connection = reader.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute(sql, [parameters[name] for name in order])
                # All rows, though there is one: SQLite would keep this moment's snapshot until then.
                return next(iter(cursor.fetchall()), None)
            finally:
                connection.close()
        except reader.dialect.loaded_dbapi.Error:
            return self.first(reader, **values)

    async def first_of_server(self, reader: "AsyncReader", **values: Any) -> tuple | None:
        """The same, from Postgres, asked without holding up the event loop."""
        sql, constants, _ = self._for(reader.dialect)
        return await reader.first(sql, constants | values)

    def _for(self, dialect: Dialect) -> tuple[str, dict[str, Any], list[str]]:
        """SQL, its constants, and the order of its parameters where they go by position."""
        if dialect.name not in self._compiled:
            compiled: Any = self._statement.compile(dialect=dialect)
            order = compiled.positiontup or []
            self._compiled[dialect.name] = (str(compiled), dict(compiled.params), order)
        return self._compiled[dialect.name]
