"""Luigi's task history with SQLAlchemy 2, which Luigi does not support yet."""

from __future__ import annotations

import warnings
from typing import Any

import sqlalchemy
import sqlalchemy.orm

from pipeline.errors import PipelineError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", sqlalchemy.exc.SADeprecationWarning)
    from luigi.db_task_history import Base, DbTaskHistory


class TaskHistory(DbTaskHistory):
    """Records the start and end of every task in the tables of Luigi's own class, which Luigi's pages read.

    Replaces Luigi's constructor, which migrates tables of Luigi 2 with statements that SQLAlchemy 2 rejects.

    :raises PipelineError: if the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self.engine = sqlalchemy.create_engine(_with_psycopg2(url), pool_pre_ping=True)
            Base.metadata.create_all(self.engine)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
            raise PipelineError(f"[ui] history: {reason}; give a SQLAlchemy URL, or none for a file") from None
        self.session_factory = sqlalchemy.orm.sessionmaker(bind=self.engine, expire_on_commit=False)
        self.tasks: dict[str, Any] = {}


def _with_psycopg2(url: str) -> sqlalchemy.URL:
    parsed = sqlalchemy.make_url(url)
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername == "postgresql" else parsed
