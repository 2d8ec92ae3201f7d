"""The report's page, made from generated figures: its contents, and that it needs no other file and no network."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import new_page
from report_rows import ASTORIA, HARLEM, report_data

from pipeline.report.formatting import average, change, dollars, months_between, percent, period, short, spans
from pipeline.report.page import make_sections, render
from pipeline.report.places import zone_outlines
from pipeline.report.sections import Chart
from pipeline.report.svg import NARROW, WIDE, round_steps

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
LATE = datetime.datetime(2026, 1, 1, 20, tzinfo=datetime.UTC)
NEW_YEARS_EVE_2008, NEW_YEAR_2041 = datetime.date(2008, 12, 31), datetime.date(2041, 1, 1)
YEARS = months_between("2014-01", "2020-12")
CASES = {
    "nothing": report_data({}),
    "one month": report_data({"Green": ["2019-01"]}),
    "a gap": report_data({"Green": ["2019-01", "2019-03"]}),
    "two services": report_data({"Green": ["2019-01"], "Yellow": ["2019-02", "2019-03"]}),
    "seven years": report_data({"Green": YEARS, "Yellow": YEARS}),
    "unknown zones": report_data({"Green": ["2019-01"]}, [None, (264, "NV", "Unknown"), ASTORIA]),
    "wrong dates": report_data({"Green": ["2019-01"]}, misdated=[NEW_YEARS_EVE_2008, NEW_YEAR_2041]),
    "special characters": report_data(
        {"Green": ["2019-01"]}, [(7, "A $1 & <b>two</b> $x_y", "Queens"), (8, "Z " * 50, "Bronx")]
    ),
    "incomplete month": report_data({"Green": ["2019-01"]}, days=3),
    "without fares": report_data({"For-hire": ["2019-01"], "Green": ["2019-01"]}, without_fares=["For-hire"]),
    "for-hire alone": report_data({"For-hire": ["2019-01"]}, without_fares=["For-hire"]),
}


class Page(HTMLParser):
    """The text of a page, the addresses that it refers to, and its ids."""

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
    return render(CASES[case], make_sections(CASES[case]), "PostgreSQL", "build-1", NOON)


def chart(case: str, name: str) -> Chart:
    [found] = [found for section in make_sections(CASES[case]) for found in section.charts if found.name == name]
    return found


@pytest.mark.parametrize("case", CASES)
def test_page_refers_to_no_other_file_and_its_labels_exist(case: str) -> None:
    html = html_of(case)
    page = Page(html)

    assert page.references == []
    assert "url(" not in html
    [policy] = re.findall("script-src '(.*?)'", html)
    [script] = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    assert policy == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert len(html) < 2_000_000
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.labels) == set(page.ids) - {"map-data"}


@pytest.mark.parametrize("case", ["nothing", "two services", "special characters"])
def test_browser_shows_the_page_without_errors(case: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (.ci/run installs it)")
    file = tmp_path / "page.html"
    file.write_text(html_of(case))

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"]
    shown = subprocess.run(
        [chromium, *options, "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "New York taxi trips" in shown.stdout
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("case", CASES)
def test_each_chart_has_a_sentence_tables_and_a_valid_svg_file(case: str) -> None:
    charts = [chart for section in make_sections(CASES[case]) for chart in section.charts]
    for chart in charts:
        assert chart.sentence.endswith(".")
        for table in chart.tables:
            assert {len(row) for row in table.rows} == {len(table.head)}
        for width in (WIDE, NARROW):
            ElementTree.fromstring(chart.draw(width).file())
        assert b"var(" not in chart.draw(WIDE).file()
    assert len({chart.name for chart in charts}) == len(charts)


def test_page_without_data_says_how_to_load_some() -> None:
    page = Page(html_of("nothing"))

    assert "Nothing is loaded yet" in page.text
    assert "Month by month" not in page.text


def test_headlines_and_tables_contain_the_figures() -> None:
    page = Page(html_of("one month"))

    assert "New York taxi trips, January 2019 " in page.text
    # 31 days with 60 trips of one dollar each.
    assert "$1,860.00" in page.text
    assert re.search(r"Busiest hour\s+\w{3} 08:00", page.text)
    assert "from 08:00 (40 trips per hour)" in page.text
    assert re.search(r"Green Jan\s2019\s+1,870\s+3\s+2\s+5\s+1,860", page.text)
    assert "https://releases.example/green" in page.text
    assert "2 January 2026 at 12:00 UTC from PostgreSQL" in page.text
    assert "The marts were built on 1 January 2026 at 09:00 UTC." in page.text
    assert re.search(r"Miles per trip\s+leaves\s+out nothing", page.text)


def test_times_are_in_utc_whatever_the_time_zone_of_the_database() -> None:
    tokyo, found = datetime.timezone(datetime.timedelta(hours=9)), CASES["one month"]
    files = [replace(file, load=replace(file.load, finished_at=LATE.astimezone(tokyo))) for file in found.files]
    data = replace(found, files=files, built_at=LATE.astimezone(tokyo))
    text = Page(render(data, make_sections(data), "PostgreSQL", "build-1", NOON)).text

    assert "The marts were built on 1 January 2026 at 20:00 UTC." in text
    assert "1 Jan 2026" in text and "2 Jan 2026" not in text


def test_months_that_are_not_loaded_are_shown_as_gaps_and_not_as_zero() -> None:
    months = chart("a gap", "months")

    assert [row[0] for row in months.tables[0].rows] == ["Green Jan\u00a02019", "Green Mar\u00a02019"]
    assert "A month without a bar is not loaded, or has no trips." in months.sentence
    assert "without a bar" not in chart("one month", "months").sentence
    assert re.search(r"January 2019 and March 2019\s+February 2019\s+none", Page(html_of("a gap")).text)


def test_each_month_is_compared_with_the_previous_month_and_the_previous_year() -> None:
    changes = chart("seven years", "months").tables[0]

    february = next(row for row in changes.rows if row[0] == "Green Feb\u00a02015")
    # A month of 28 days after one of 31.
    assert [cell.replace("\u202f", "") for cell in february[1:4]] == ["1,680", "-9.7%", "+0.0%"]
    first = next(row for row in changes.rows if row[0] == "Green Jan\u00a02014")
    assert first[2:4] == ["-", "-"]


def test_incomplete_months_are_marked_and_left_out_of_average_hours_comparisons_and_records() -> None:
    page = Page(html_of("incomplete month"))

    assert "Green Jan\u00a02019 (incomplete, 3 days)" in page.text
    for table in (*chart("incomplete month", "months").tables, chart("incomplete month", "payments").tables[1]):
        assert [row[0] for row in table.rows] == ["Green Jan\u00a02019 (incomplete, 3 days)"]
    assert "Busiest" not in page.text and "most frequent" not in page.text
    assert "Revenue per trip" in page.text and "count in all totals and in the revenue per trip" in page.text
    assert "stroke-dasharray" in chart("incomplete month", "months").draw(WIDE).markup()
    assert "stroke-dasharray" not in chart("one month", "months").draw(WIDE).markup()


def test_loaded_month_without_trips_is_incomplete() -> None:
    data = report_data({"Green": ["2019-01", "2019-02"]})
    del data.warehouse.rows["select_months"][1]  # type: ignore[attr-defined]
    [(sentence, table), *_] = make_sections(data)[0].tables

    assert table.rows[0][1:4] == ["January to February 2019", "none", "February 2019"]
    assert "have trips on fewer than nine in ten of their days" in sentence


def test_trips_with_wrong_dates_are_counted_and_left_out_of_the_charts_by_time() -> None:
    data, page = CASES["wrong dates"], Page(html_of("wrong dates"))

    assert [(month.month, month.trips) for month in data.months] == [("2019-01", 31 * 60)]
    assert "1,862" in page.text
    assert "(December 2008 to January 2041; 2 in all)" in page.text


def test_services_without_fares_have_no_figures_on_fares() -> None:
    text = Page(html_of("without fares")).text

    assert "For-hire: trips per month" in text and "For-hire: revenue" not in text
    assert [row[1:] for row in chart("without fares", "payments").tables[1].rows] == [
        ["$930.00", "$186.00", "11.1\u202f%"]
    ]
    for service, distances in (("For-hire", "-"), ("High-volume", "0")):
        data = report_data({service: ["2019-01"]}, without_fares=["For-hire", "High-volume"])
        if service == "For-hire":
            data.warehouse.rows["select_months"][0].update(distance=None, trips_with_distance=0)  # type: ignore[attr-defined]
        [*_, (_, implausible)] = make_sections(data)[-1].tables
        assert implausible.rows[0][6:] == [distances, "0"]
    charts = [found.name for section in make_sections(CASES["for-hire alone"]) for found in section.charts]
    assert charts == ["months", "map", "boroughs", "zones", "week-for-hire"]
    assert "$" not in Page(html_of("for-hire alone")).text.partition("How to read this")[0]


def test_tips_of_card_payments_leave_out_the_tips_of_trips_whose_payment_is_not_recorded() -> None:
    payments = chart("one month", "payments")

    # Of $1,240 charged to cards, $124 are tips; the other trips, whose payment is not recorded, have $62 of tips.
    assert "Tips add 11.1\u202f% to card payments; cash tips are not recorded." in payments.sentence
    assert [row[1:] for row in payments.tables[1].rows] == [["$930.00", "$186.00", "11.1\u202f%"]]


def test_most_common_way_to_pay_is_one_that_is_recorded() -> None:
    data = report_data({"Green": ["2019-01"]})
    payments = data.warehouse.rows["select_payments"]  # type: ignore[attr-defined]
    payments[1]["trips"] = 9 * payments[0]["trips"]

    def sentence() -> str:
        [found] = [chart for section in make_sections(data) for chart in section.charts if chart.name == "payments"]
        return found.sentence.replace("\u202f", "")

    unrecorded = "For 90.0% of trips, no payment type is recorded."
    assert sentence().startswith(f"Credit card is the most common way to pay: 10.0% of trips. {unrecorded}")
    del payments[0]
    assert sentence() == unrecorded.replace("90.0", "100.0")


def test_unknown_zones_are_shown_as_one_place() -> None:
    zones = chart("unknown zones", "zones")
    [table] = zones.tables

    assert table.rows == [["Unknown", "1,550"], ["Astoria, Queens", "310"]]
    assert zones.sentence.replace("\u202f", "") == (
        "Most trips begin in Astoria, Queens (310, 16.7%). The zone of 1,550 trips (83.3%) is unknown."
    )


def test_trips_without_a_vendor_are_said_to_be_left_out_only_if_they_are() -> None:
    data = report_data({"Green": ["2019-01"]})

    def text() -> str:
        return render(data, make_sections(data), "PostgreSQL", "build-1", NOON)

    counted = "Such rows are counted like all others. "
    assert counted in text() and "known_vendors_only" not in text()
    for file in data.files:
        file.quality["reported"] -= file.quality["unknown_vendors"]  # type: ignore[index]
    assert counted not in text() and ", or no known vendor (known_vendors_only is set);" in text()


def test_busiest_zone_is_a_known_one() -> None:
    assert re.search(r"Busiest zone\s+Astoria\s+16.7\u202f% of pick-ups", Page(html_of("unknown zones")).text)
    data = report_data({"For-hire": ["2019-01"]}, [None], without_fares=["For-hire"])
    assert "Busiest zone" not in render(data, make_sections(data), "PostgreSQL", "build-1", NOON)


def test_busiest_hour_is_that_of_any_service() -> None:
    data = report_data({"Green": ["2019-01"], "Yellow": ["2019-01"]})
    for row in data.warehouse.rows["select_week"]:  # type: ignore[attr-defined]
        if row["service"] == "Yellow":  # as many trips in fewer hours
            row["trips"] = 58 * row["trips"] // 40 if row["hour"] == 8 else 0
    text = Page(render(data, make_sections(data), "PostgreSQL", "build-1", NOON)).text

    assert re.search(r"Busiest hour\s+\w{3} 08:00\s+58 trips on average, Yellow", text)


def test_map_has_every_zone_of_the_shape_file_and_adds_the_others_to_the_zone_of_the_same_name() -> None:
    assert set(map(str, range(1, 264))) - zone_outlines()["zones"].keys() == {"57", "104", "105"}

    data = report_data({"Green": ["2019-01"]}, [(56, "Corona", "Queens"), (57, "Corona", "Queens"), HARLEM])
    [drawing] = [found for section in make_sections(data) for found in section.charts if found.name == "map"]
    assert "<title>Corona, Queens: 1,550 pick-ups</title>" in drawing.draw(WIDE).markup()


def test_map_says_which_months_it_lacks_or_has_in_part_and_adds_before_it_rounds(
    tmp_path: Path, chromium_address: str
) -> None:
    data = report_data({"Green": YEARS, "Yellow": YEARS[:1]}, [HARLEM, ASTORIA])
    rows = data.warehouse.rows  # type: ignore[attr-defined]
    for row in rows["select_months"]:
        if row["service"] == "Yellow":
            row["days"] = 3
    for row in rows["select_zones"]:
        row["revenue"] += 0.4 if row["zone"] == "Astoria" else -10_000
    file = tmp_path / "page.html"
    file.write_text(render(data, make_sections(data), "PostgreSQL", "build-1", NOON))
    astoria = sum(row["revenue"] for row in rows["select_zones"] if (row["service"], row["zone_id"]) == ("Green", 7))

    def choose(name: str, value: str) -> None:
        page.fill(f"select[name={name}]", value)
        page.run("document.forms[0].dispatchEvent(new Event('change'))")

    def zone(number: int) -> str:
        return str(page.run(f"document.querySelector('path[data-zone=\"{number}\"] title').textContent"))

    with new_page(chromium_address) as page:
        page.go(file.as_uri())
        assert f", ${astoria:,.0f}" in zone(7)
        assert ", -$" in zone(74)
        [first] = [chart for section in make_sections(data) for chart in section.charts if chart.name == "map"]
        assert first.sentence == page.run("document.getElementById('map').textContent")
        choose("month", YEARS[0])
        assert "The map has no figures for this service in this month." in page.text()
        assert zone(7) == "Astoria, Queens: no figures"
        assert "incomplete" not in page.run("document.forms[0].month.selectedOptions[0].textContent")
        choose("service", "Yellow")
        assert page.run("document.forms[0].month.selectedOptions[0].textContent") == "January 2014 (incomplete)"
        caption = "The stronger the colour of a zone, the more yellow trips began there in January 2014 (incomplete)"
        assert f"{caption}: most in East Harlem North, Manhattan." in page.text()
        choose("measure", "1")
        assert "the more revenue yellow trips had there in January 2014 (incomplete): most in Astoria" in page.text()
        assert page.errors == []


def test_map_of_trips_in_unknown_zones_names_no_zone() -> None:
    data = report_data({"For-hire": ["2019-01"]}, [None], without_fares=["For-hire"])
    [found] = [found for section in make_sections(data) for found in section.charts if found.name == "map"]
    assert found.sentence == "No for-hire trips begin in a zone on the map."


def test_long_names_do_not_make_the_page_wider_than_a_phone(tmp_path: Path, chromium_address: str) -> None:
    data = report_data({"Green": ["2019-01"]}, [(7, "Z" * 120, "Queens"), HARLEM])
    file = tmp_path / "page.html"
    file.write_text(render(data, make_sections(data), "PostgreSQL", "build-1", NOON))

    with new_page(chromium_address) as page:
        page.set_screen(390, 900)
        page.go(file.as_uri())
        assert page.run("document.documentElement.scrollWidth") == 390


def test_long_texts_are_not_cut_off_on_a_phone(tmp_path: Path, chromium_address: str) -> None:
    months = months_between("2014-01", "2020-12")
    data = report_data({"Green": [month for month in months if month.endswith(("01", "02", "07"))]})
    file = tmp_path / "page.html"
    file.write_text(render(data, make_sections(data), "PostgreSQL", "build-1", NOON))

    with new_page(chromium_address) as page:
        page.set_screen(390, 900)
        page.go(file.as_uri())
        table = """document.querySelector("[aria-label='What this covers']")"""
        assert page.run(f"{table}.scrollWidth - {table}.clientWidth") == 0
        labels = page.run(f"[...{table}.querySelectorAll('td')].map((e) => getComputedStyle(e, '::before').content)")
        assert labels == ['"Months: "', '"Missing: "', '"Incomplete: "', '"Trips: "', '"Last loaded: "']
        labels = "[...document.querySelectorAll('.narrow text')].filter((e) => e.getBoundingClientRect().right > 390)"
        assert page.run(f"{labels}.map((e) => e.textContent)") == []


def test_markup_in_names_is_escaped() -> None:
    html = html_of("special characters")

    assert "<b>two" not in html
    assert html.count("A $1 &amp; &lt;b&gt;two&lt;/b&gt; $x_y") >= 4  # sentence, table, and drawings


def test_page_and_drawings_have_the_same_colours() -> None:
    html = html_of("two services")
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = (set(re.findall(r"(--[\w-]+):", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL))

    assert {"--green", "--yellow", "--ink"} <= used <= light == dark
    assert re.search(r"<svg.*#[0-9a-f]{6}", html, re.DOTALL) is None


def test_same_marts_make_the_same_page() -> None:
    again = render(CASES["one month"], make_sections(CASES["one month"]), "PostgreSQL", "build-1", NOON)
    assert again == html_of("one month")


@pytest.mark.parametrize(
    ("value", "text"),
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
def test_short_form_of_numbers(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize("high", [1, 1.9, 3.7, 5.1, 8.1, 9.9, 26, 3_683_000])
def test_axis_has_enough_round_numbers_to_read_a_bar_by(high: float) -> None:
    steps = round_steps(0, high)
    assert steps[0] == 0 and 3 <= len(steps) <= 6 and high - steps[-1] < steps[1]


def test_text_of_numbers_and_months() -> None:
    assert (dollars(-1234.5), short(1234, "$")) == ("-$1,234.50", "$1.2k")
    assert [percent(part, 1000).replace("\u202f", "") for part in (0, 0.5, 211)] == ["0.0%", "<0.1%", "21.1%"]
    assert [average(value) for value in (0, 0.25, 12.4, None)] == ["0", "0.2", "12", "-"]
    assert [change(now, 200).replace("\u202f", "") for now in (100, 250, None)] == ["-50.0%", "+25.0%", "-"]
    assert spans(["2020-03", "2020-04", "2020-06"]) == "March to April 2020 and June 2020"
    assert period(["2020-03", "2020-04", "2020-06"]) == "March to April 2020 and June 2020"
    assert period(["2020-03", "2020-04", "2020-06", "2025-11"]) == "4 months between March 2020 and November 2025"
    assert (
        spans(["2020-12", "2019-12", "2020-01", "2021-01"])
        == "December 2019 to January 2020 and December 2020 to January 2021"
    )
