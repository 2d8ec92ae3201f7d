"""What PostgreSQL may fail with, told in one line, and told apart: what passes by itself and what does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
import psycopg2.errors

from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import ConnectionLost


@contextlib.contextmanager
def explained(partition_key: str, done: str) -> Iterator[None]:
    """Whatever PostgreSQL fails with in here is a PipelineError, which says what was not done to the file.

    :raises ConnectionLost: when it may well be gone the next time.
    """
    what = f"{partition_key} was not {done} and nothing has changed"
    try:
        yield
    except psycopg2.errors.DiskFull as error:
        raise PipelineError(f"{what}: the database server's disk is full ({_primary(error)}); make room") from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise PipelineError(f"{what}: {_primary(error)}; grant it, or choose another --postgres-schema") from error
    except psycopg2.Error as error:
        if _is_passing(error):
            raise ConnectionLost(f"{what}: the database connection broke ({_primary(error)})") from error
        raise PipelineError(f"{what}: PostgreSQL says: {_primary(error)}") from error


def _is_passing(error: psycopg2.Error) -> bool:
    """Whether it may well go away by itself: a broken connection, a server that stops or starts, a deadlock."""
    if error.pgcode is None:  # psycopg2's own errors; one that breaks a COPY is a mere DatabaseError
        known = (psycopg2.OperationalError, psycopg2.InterfaceError)
        return isinstance(error, known) or type(error) is psycopg2.DatabaseError
    return error.pgcode.startswith(("08", "40", "57P"))


def _primary(error: psycopg2.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
