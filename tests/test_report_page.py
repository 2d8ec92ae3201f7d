"""The report's page, from figures made to order: what it says, that it stands alone, and that a browser takes it."""

from __future__ import annotations

import datetime
import functools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from report_figures import ASTORIA, figures

from pipeline.report.contents import sections_of
from pipeline.report.drawing import png
from pipeline.report.figures import Figures
from pipeline.report.page import render
from pipeline.report.wording import average, dollars, percent, short, spans

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
NEW_YEARS_EVE_2008, NEW_YEAR_2041 = datetime.date(2008, 12, 31), datetime.date(2041, 1, 1)
YEARS = [str(month) for month in pd.period_range("2014-01", "2020-12", freq="M")]
CASES = {
    "nothing": figures({}),
    "one month": figures({"Green": ["2019-01"]}),
    "a gap": figures({"Green": ["2019-01", "2019-03"]}),
    "two services": figures({"Green": ["2019-01"], "Yellow": ["2019-02", "2019-03"]}),
    "seven years": figures({"Green": YEARS, "Yellow": YEARS}),
    "unknown zones": figures({"Green": ["2019-01"]}, [("NV", "Unknown"), ("Unknown", "Unknown"), ASTORIA]),
    "clocks gone wrong": figures(
        {"Green": ["2019-01"]}, misdated=[datetime.date(2008, 12, 31), datetime.date(2041, 1, 1)]
    ),
    "odd names": figures({"Green": ["2019-01"]}, [("A $1 & <b>two</b> $x_y", "Queens"), ("Zone " * 20, "Bronx")]),
    "only clocks gone wrong": figures({"Green": []}, misdated=[NEW_YEAR_2041]),
}


class Page(HTMLParser):
    """The text of a page, what it refers to, and the ids in it."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.ids, self.labels, self.references = "", list[str](), list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.labels += [values["aria-labelledby"]] if "aria-labelledby" in values else []
        self.references += [value for name, value in values.items() if name in {"src", "href", "xlink:href"}]

    def handle_data(self, data: str) -> None:
        self.text += " " + data


@functools.cache
def html_of(case: str) -> str:
    return render(CASES[case], "PostgreSQL", "build-1", NOON)


@pytest.mark.parametrize("case", CASES)
def test_page_stands_alone_and_its_labels_lead_somewhere(case: str) -> None:
    html = html_of(case)
    page = Page(html)

    assert page.references == []
    assert "url(" not in html
    assert "<script" not in html
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.labels) == set(page.ids)


@pytest.mark.parametrize("case", ["nothing", "two services", "odd names"])
def test_browser_shows_page_without_complaint(case: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (.ci/run installs it)")
    file = tmp_path / "page.html"
    file.write_text(html_of(case))

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"]
    shown = subprocess.run(
        [
            chromium,
            *options,
            f"--user-data-dir={tmp_path}/profile",
            "--enable-logging=stderr",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "New York taxi trips" in shown.stdout
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("case", CASES)
def test_each_chart_has_a_sentence_a_table_and_an_image(case: str) -> None:
    charts = [chart for section in sections_of(CASES[case]) for chart in section.charts]
    for chart in charts:
        assert png(chart.draw).startswith(b"\x89PNG")
        assert chart.sentence.endswith(".")
        assert {len(row) for row in chart.table.rows} == {len(chart.table.head)}
    assert len({chart.name for chart in charts}) == len(charts)


def test_nothing_loaded_says_how_to_begin() -> None:
    page = Page(html_of("nothing"))

    assert "Nothing is loaded yet" in page.text
    assert "Month by month" not in page.text


def test_headlines_and_tables_hold_the_figures() -> None:
    page = Page(html_of("one month"))

    # 31 days of 40 and 20 trips, a dollar each.
    assert "$1,860.00" in page.text
    assert "Mon 08:00" in page.text
    assert "Green taxis are busiest on Mondays from 08:00 (40 trips an hour)" in page.text
    assert re.search(r"Green Jan\s2019\s+1,870\s+3\s+2\s+5\s+1,860", page.text)
    assert "https://releases.example/green" in page.text
    assert "2 January 2026 at 12:00 UTC from PostgreSQL" in page.text


def test_months_that_are_not_loaded_are_gaps_not_zeros() -> None:
    (chart,) = sections_of(CASES["a gap"])[0].charts

    assert [row[0] for row in chart.table.rows] == ["Green Jan\u00a02019", "Green Mar\u00a02019"]
    assert "A month without a bar is not loaded, or has no trips." in chart.sentence
    assert "without a bar" not in sections_of(CASES["one month"])[0].charts[0].sentence


def test_trips_of_clocks_gone_wrong_are_counted_and_stay_out_of_the_charts_by_time() -> None:
    shown, page = CASES["clocks gone wrong"], Page(html_of("clocks gone wrong"))

    assert shown.by_month()["month"].to_list() == ["2019-01"]
    assert shown.by_month()["trips"].sum() == 31 * 60
    assert "1,862" in page.text
    assert "(December 2008 to January 2041; 2 in all)" in page.text


def test_an_average_hour_is_over_the_days_with_trips_and_a_weekday_without_any_is_blank() -> None:
    whole = figures({"Green": ["2019-02"]})
    shown = Figures(whole.hours[whole.hours["date"] <= "2019-02-03"], whole.zones, whole.files)  # Friday to Sunday
    week = shown.week(["Green"])

    assert week.loc[4, 8] == 40
    assert week.loc[4, 9] == 0
    assert week.loc[0].isna().all()
    assert [row[1] for row in sections_of(shown)[-1].charts[0].table.rows] == ["-"] * 24  # Monday's


def test_unknown_zones_are_one_place_by_that_name() -> None:
    shown = CASES["unknown zones"]

    assert set(shown.by_zone().index) == {"Unknown", "Astoria, Queens"}
    assert shown.by_zone().sum().sum() == shown.by_borough().sum().sum() == 31 * 60


def test_names_are_text_not_markup_nor_formulas() -> None:
    html = html_of("odd names")

    assert "<b>two" not in html
    assert html.count("A $1 &amp; &lt;b&gt;two&lt;/b&gt; $x_y") >= 4  # sentence, table, and both drawings


def test_page_and_drawings_have_the_same_colours() -> None:
    html = html_of("two services")
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = (set(re.findall(r"(--[\w-]+):", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL))

    assert {"--green", "--yellow", "--ink"} <= used <= light == dark
    assert re.search(r"<svg.*#[0-9a-f]{6}", html, re.DOTALL) is None


def test_same_figures_make_the_same_page() -> None:
    assert render(CASES["one month"], "PostgreSQL", "build-1", NOON) == html_of("one month")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (1.5, "1.5"),
        (999, "999"),
        (999.6, "1k"),
        (1499, "1.5k"),
        (999_600, "1M"),
        (2.5e9, "2.5B"),
        (-1e3, "-1k"),
    ],
)
def test_short_numbers(value: float, words: str) -> None:
    assert short(value) == words


def test_words_for_numbers_and_months() -> None:
    assert (dollars(-1234.5), short(1234, "$")) == ("-$1,234.50", "$1.2k")
    assert [percent(part, 1000).replace("\u202f", "") for part in (0, 0.5, 211)] == ["0.0%", "<0.1%", "21.1%"]
    assert [average(value) for value in (0, 0.25, 12.4)] == ["0", "0.2", "12"]
    assert spans(["2020-03", "2020-04", "2020-06"]) == "March to April 2020 and June 2020"
    assert (
        spans(["2020-12", "2019-12", "2020-01", "2021-01"])
        == "December 2019 to January 2020 and December 2020 to January 2021"
    )
