"""Statements that run thousands of times a second.

SQLAlchemy's own execution costs five times what the driver and SQLite need for a row by key. A hot
statement is compiled once and then handed to the driver as it is; only when the driver refuses it
does SQLAlchemy run it again, to raise its error and mend the pool.
"""

from typing import Any

from sqlalchemy import Dialect, Engine, Select


class HotStatement:
    """A select of one row, outside of transactions."""

    def __init__(self, statement: Select) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any], list[str]]] = {}

    def first(self, reader: Engine, **values: Any) -> tuple | None:
        """The first row for those values of the statement's parameters."""
        sql, constants, order = self._for(reader.dialect)
        parameters = constants | values
        connection = reader.raw_connection()
        driver: Any = connection.dbapi_connection
        try:
            return driver.execute(
                sql, [parameters[name] for name in order] or parameters
            ).fetchone()
        except reader.dialect.loaded_dbapi.Error:
            with reader.connect() as mending:
                row = mending.execute(self._statement, values).first()
            return None if row is None else tuple(row)
        finally:
            connection.close()

    def _for(self, dialect: Dialect) -> tuple[str, dict[str, Any], list[str]]:
        """SQL, its constants, and the order of its parameters where they go by position."""
        if dialect.name not in self._compiled:
            compiled: Any = self._statement.compile(dialect=dialect)
            order = compiled.positiontup or []
            self._compiled[dialect.name] = (str(compiled), dict(compiled.params), order)
        return self._compiled[dialect.name]
