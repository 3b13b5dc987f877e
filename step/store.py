"""The results database: runs, metrics, learning curves and tables, by any number of writers at once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import (
    JSON,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    create_engine,
    delete,
    event,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from neurons.errors import StepError


class StoreError(StepError):
    """A results database that cannot be opened or written."""


class _Base(DeclarativeBase):
    pass


class Run(_Base):
    """One run: a spec with a seed, and how it ended."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    suite: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20))  # finished | failed
    seed: Mapped[int]
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    error: Mapped[str | None]
    seconds: Mapped[float] = mapped_column(Float)
    finished: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    machine: Mapped[dict[str, Any]] = mapped_column(JSON)


class Metric(_Base):
    """One number of a run."""

    __tablename__ = "metrics"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float | None] = mapped_column(Float)


class Curve(_Base):
    """One number of one epoch of a run."""

    __tablename__ = "curves"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float | None] = mapped_column(Float)


class Frame(_Base):
    """One table of a run, as parquet: the operation record, the confusion matrix."""

    __tablename__ = "frames"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    parquet: Mapped[bytes] = mapped_column(LargeBinary)


class Store:
    """Results of runs in a database.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, or the path of an SQLite file (made if missing).

    Raises
    ------
    StoreError
        When the database cannot be opened or written.
    """

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else f"sqlite:///{Path(url).absolute()}"
        try:
            parsed = make_url(self.url)
            if parsed.drivername.startswith("sqlite") and parsed.database:
                _check_writable(Path(parsed.database))
            self.engine = create_engine(parsed)
            if self.engine.dialect.name == "sqlite":
                event.listen(self.engine, "connect", _sqlite_settings)
            with self.engine.begin() as connection:
                # Not create_all: it looks first and creates then, and another process may come between.
                for table in _Base.metadata.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(f"--store {url!r}: {_one_line(error)}; give a file or a URL like sqlite:///file") from None
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"cannot use the results database {self.url}: {_one_line(error)}") from None

    def finish(
        self,
        run: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Iterable[tuple[int, str, float]] = (),
        frames: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        """Write everything about one run in one transaction, in place of what was there of it."""
        run_id = run["id"]
        try:
            with Session(self.engine) as session, session.begin():
                for table in (Metric, Curve, Frame):
                    session.execute(delete(table).where(table.run == run_id))
                session.execute(delete(Run).where(Run.id == run_id))
                session.add(Run(**run, finished=datetime.now(UTC)))
                session.flush()
                session.add_all(Metric(run=run_id, name=k, value=float(v)) for k, v in metrics.items())
                session.add_all(Curve(run=run_id, epoch=e, name=n, value=float(v)) for e, n, v in curves)
                session.add_all(Frame(run=run_id, name=k, parquet=_parquet(f)) for k, f in (frames or {}).items())
        except SQLAlchemyError as error:
            raise StoreError(f"run {run_id} could not be written to {self.url}: {_one_line(error)}") from None

    def statuses(self, ids: Iterable[str] | None = None) -> dict[str, str]:
        """Return ``finished`` or ``failed`` by run."""
        runs = self.runs(ids)
        return dict(zip(runs["id"], runs["status"], strict=True))

    def runs(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row for each run: id, suite, status, seed, spec, error, seconds, finished, machine."""
        return self._select(Run, Run.id, ids)

    def metrics(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row for each run, one column for each metric."""
        frame = self._select(Metric, Metric.run, ids)
        return frame.pivot(index="run", columns="name", values="value")

    def curves(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the learning curves: run, epoch, name, value."""
        return self._select(Curve, Curve.run, ids).sort_values(["run", "name", "epoch"], ignore_index=True)

    def frames(self, run: str, prefix: str = "") -> dict[str, pd.DataFrame]:
        """Return the tables of one run whose names begin with ``prefix``, without the prefix."""
        with Session(self.engine) as session:
            rows = session.scalars(select(Frame).where(Frame.run == run, Frame.name.startswith(prefix))).all()
            return {row.name.removeprefix(prefix): pd.read_parquet(io.BytesIO(row.parquet)) for row in rows}

    def _select(self, table: Any, key: Any, ids: Iterable[str] | None) -> pd.DataFrame:
        query = select(table)
        if ids is not None:
            query = query.where(key.in_(list(ids)))
        columns = [column.name for column in table.__table__.columns]
        with Session(self.engine) as session:
            rows = session.scalars(query).all()
            return pd.DataFrame([[getattr(row, c) for c in columns] for row in rows], columns=columns)


def exists(url: str) -> bool:
    """Return whether there may be results at ``url``: looking must not make an empty database."""
    return "://" in url or Path(url).exists()


def _sqlite_settings(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=60000")  # wait for other writers instead of failing
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _check_writable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise StoreError(f"the results database {path} is a folder; give a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise StoreError(f"the results database {path} cannot be written; choose another with --store")


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _one_line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split()).split(" [SQL:")[0]
