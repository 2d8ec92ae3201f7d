"""The figures of the report, as tables that are small whatever the number of trips."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from pipeline.report.files import FileSummary, read_files
from pipeline.report.statements import statement
from pipeline.warehouses import Rows, Warehouse

UNKNOWN = "Unknown"

_HOURS = {"service": "str", "date": "datetime64[s]", "hour": "int", "trips": "int", "revenue": "float"}
_ZONES = {"service": "str", "borough": "str", "zone": "str", "trips": "int", "revenue": "float"}


@dataclass(frozen=True)
class Figures:
    """What one warehouse held when it was asked.

    `hours`: trips and revenue by service, date and hour of the pick-up. `zones`: by service and zone of the pick-up.
    """

    hours: pd.DataFrame
    zones: pd.DataFrame
    files: list[FileSummary]

    @property
    def services(self) -> list[str]:
        return sorted(self.hours["service"].unique())

    def dated(self) -> pd.DataFrame:
        """The `hours` in months that are loaded of their service; a clock gone wrong dates some trips years away."""
        loaded = {f"{file.service} {file.month}" for file in self.files}
        hours = self.hours.assign(month=self.hours["date"].dt.strftime("%Y-%m"))
        return hours[(hours["service"] + " " + hours["month"]).isin(loaded)]

    def misdated(self) -> pd.DataFrame:
        """The `hours` in all other months."""
        return self.hours.drop(self.dated().index)

    def by_month(self) -> pd.DataFrame:
        """Trips and revenue by service and month."""
        return self.dated().groupby(["service", "month"], as_index=False)[["trips", "revenue"]].sum()

    def by_borough(self) -> pd.DataFrame:
        """Trips by borough, most first, a column a service."""
        return self._ranked(self.zones["borough"])

    def by_zone(self) -> pd.DataFrame:
        """Trips by zone with its borough, most first, a column a service."""
        names = self.zones["zone"] + ", " + self.zones["borough"]
        return self._ranked(names.mask(self.zones["borough"] == UNKNOWN, UNKNOWN))

    def week(self, services: Collection[str]) -> pd.DataFrame:
        """Trips in an average hour: a row a weekday from Monday, a column an hour; only days with trips count.

        A weekday that had none is blank.
        """
        dated = self.dated()
        hours = dated[dated["service"].isin(services)]
        weekday = hours["date"].dt.day_of_week.rename("weekday")
        days = hours.groupby(weekday)["date"].nunique()
        trips: pd.DataFrame = hours.pivot_table(index=weekday, columns="hour", values="trips", aggfunc="sum")
        return trips.reindex(columns=range(24)).fillna(0).div(days, axis="index").reindex(range(7))

    def _ranked(self, places: pd.Series[str]) -> pd.DataFrame:
        trips = self.zones.pivot_table(index=places.rename("place"), columns="service", values="trips", aggfunc="sum")
        order = trips.sum(axis="columns").sort_values(ascending=False, kind="stable").index
        return trips.loc[order].fillna(0).astype(int)


@dataclass(frozen=True)
class WeekHour:
    """One hour of the week, whose first day is Monday (0), and how many trips it has on average."""

    weekday: int
    hour: int
    trips: float


def hours_by_trips(week: pd.DataFrame) -> list[WeekHour]:
    """The hours of a week, busiest first, without those of blank weekdays."""
    rows = week.dropna().itertuples()
    hours = [WeekHour(day, hour, trips) for day, *row in rows for hour, trips in enumerate(row)]
    return sorted(hours, key=lambda hour: -hour.trips)


def read_figures(warehouse: Warehouse) -> Figures:
    """The figures as they are now, aggregated in the warehouse."""
    return Figures(
        hours=_frame(warehouse.select(statement("select_trips_by_hour"), marts=["fact_trips"]), _HOURS),
        zones=_frame(warehouse.select(statement("select_trips_by_zone"), marts=["fact_trips"]), _ZONES),
        files=read_files(warehouse),
    )


def _frame(rows: Rows, types: dict[str, str]) -> pd.DataFrame:
    blanks = {name: UNKNOWN if type_ == "str" else 0 for name, type_ in types.items()}
    return pd.DataFrame(rows, columns=list(types)).fillna(blanks).astype(types)
