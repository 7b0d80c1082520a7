"""Statements that are asked again and again: spelled once an engine, and then given to the driver itself.

SQLAlchemy takes several times as long to execute a statement as SQLite does to answer it. A prepared statement is the
same statement, compiled on its first use; it runs on the driver's connection below the one it is given, and so in the
same transaction. What is bound and what is returned is converted as SQLAlchemy converts it, and what the driver raises
leaves as SQLAlchemy's error of the same kind, without a parameter's value in it.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

T = TypeVar("T")

Statement = Select[*tuple[Any, ...]] | Insert | Update | Delete
Parameters = Mapping[str, Any]

_Convert = Callable[[Any], Any]


class Prepared:
    """A statement of SQLAlchemy's to be executed often; or one for each engine, by the engine's name.

    Parameters are given by name, and a missing one raises KeyError. Those of an INSERT or UPDATE name its columns, as
    they do for ``Connection.execute``. A list that is as long as its parameter has it (``expanding``) has no place in
    it. Rows are named tuples, of which every column needs a name of its own. Any number of threads may share one.
    """

    def __init__(self, statement: Statement | Mapping[str, Statement]) -> None:
        self._statements = statement
        self._spelled: dict[tuple[str, ...], _Spelled] = {}

    def all(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """Return every row; all of them are in memory."""
        spelled = self._spell(connection, parameters)
        rows = _ask(connection, spelled.text, spelled.bind(parameters), _fetch)
        return [spelled.read(row) for row in rows]

    def first(self, connection: Connection, parameters: Parameters) -> Any:
        """Return the first row, or None; it is for what has hardly more than one."""
        spelled = self._spell(connection, parameters)
        # All of them are fetched: a statement that has not ended would keep SQLite from ending its transaction.
        rows = _ask(connection, spelled.text, spelled.bind(parameters), _fetch)
        return spelled.read(rows[0]) if rows else None

    def scalar(self, connection: Connection, parameters: Parameters) -> Any:
        """Return the first column of the first row, or None; as ``first``."""
        row = self.first(connection, parameters)
        return None if row is None else row[0]

    def run(self, connection: Connection, parameters: Parameters) -> int:
        """Execute what returns no rows, and return how many it changed."""
        spelled = self._spell(connection, parameters)
        return _ask(connection, spelled.text, spelled.bind(parameters), _count)

    def run_all(self, connection: Connection, rows: Sequence[Parameters]) -> None:
        """Execute what returns no rows for each of ``rows``, at least one; all of them name the same parameters."""
        spelled = self._spell(connection, rows[0])
        _ask(connection, spelled.text, [spelled.bind(row) for row in rows], _nothing, is_many=True)

    def _spell(self, connection: Connection, parameters: Parameters) -> "_Spelled":
        dialect = connection.dialect
        key = (dialect.name, *parameters)
        # Threads that come here at once spell it twice, alike.
        spelled = self._spelled.get(key)
        if spelled is None:
            statement = self._statements
            if isinstance(statement, Mapping):
                statement = statement[dialect.name]
            spelled = self._spelled[key] = _Spelled(statement, dialect, parameters)
        return spelled


class _Spelled:
    """A statement as one engine's driver takes it."""

    def __init__(self, statement: Statement, dialect: Dialect, names: Iterable[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        assert not compiled.post_compile_params, "what is spelled anew for every execution cannot be prepared"
        self.text: Final = str(compiled)
        binds = compiled.binds
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._is_positional = compiled.positional
        places = compiled.positiontup if compiled.positional else list(binds)
        self._binds = [(name, _convert_in(binds[name].type, dialect)) for name in places or ()]
        columns = () if isinstance(statement, Delete) else statement.exported_columns
        names_out = [str(column.key) for column in columns]
        self._make: _Convert = namedtuple("Row", names_out, rename=True)._make  # type: ignore[attr-defined] # noqa: PYI024
        converters = [_convert_out(column.type, dialect) for column in columns]
        self._converters = [(index, convert) for index, convert in enumerate(converters) if convert]

    def bind(self, parameters: Parameters) -> Any:
        """Return the parameters as the driver takes them, in a list or by name."""
        values = {**self._constants, **parameters} if self._constants else parameters
        if self._is_positional:
            return [convert(values[name]) if convert else values[name] for name, convert in self._binds]
        return {name: convert(values[name]) if convert else values[name] for name, convert in self._binds}

    def read(self, row: Sequence[Any]) -> Any:
        """Return a row of the driver's with its columns' names and values."""
        if self._converters:
            row = list(row)
            for index, convert in self._converters:
                row[index] = convert(row[index])
        return self._make(row)


def _convert_in(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _convert_out(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _ask(connection: Connection, text: str, values: Any, take: Callable[[Any], T], *, is_many: bool = False) -> T:
    """Execute on the driver's own connection and return what ``take`` takes; raise DBAPIError as SQLAlchemy does."""
    cursor = connection.connection.cursor()
    try:
        if is_many:
            cursor.executemany(text, values)
        else:
            cursor.execute(text, values)
        return take(cursor)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _wrap(connection, text, error) from error


def _wrap(connection: Connection, text: str, error: Any) -> BaseException:
    dialect = connection.dialect
    is_lost = dialect.is_disconnect(error, connection.connection, None)
    if is_lost:
        connection.invalidate(error)
    wrapped: BaseException = DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    return wrapped


def _fetch(cursor: Any) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = cursor.fetchall()
    return rows


def _nothing(_cursor: Any) -> None:
    pass


def _count(cursor: Any) -> int:
    count: int = cursor.rowcount
    return count
