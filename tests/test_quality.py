"""The pipeline's quality, as JSON and as a page: figures, what a dashboard can and cannot know, and nothing private."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from lxml import html

from dashboard_api import drawing, quality_page
from dashboard_api.answers import AnswerCache
from dashboard_api.api import api_routes, openapi_config
from dashboard_api.behind import Logs
from dashboard_api.desk import Desk
from dashboard_api.pages import page_routes
from dashboard_api.quality import Counts, Group, Overdue, Quality, Stage, Watch, measure
from feed.log import readers
from schemas.errors import Unavailable
from schemas.reasons import REASONS, reason_of
from schemas.records import Problem
from tests import sample_dashboard
from tests.chain import Chain, failing, load, measured
from tests.sample_dashboard import Sample

NOW = datetime(2026, 5, 20, 12, 10, tzinfo=UTC)
MALFORMED = Problem(where="line 1", expected="well-formed JSON", found="<script>alert(1)</script>")
CRASH = Problem(
    where="processor", expected="a transform that ends", found="the process that read it was ended by SIGSEGV"
)


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    made = sample_dashboard.empty(tmp_path)
    yield made
    made.opened.close()


def filled(sample: Sample, now: datetime = NOW) -> Sample:
    """Submissions of all ages and ends, received so long before `now`."""
    for ago, verdict, problems, project in [
        (timedelta(days=30), "rejected", [MALFORMED], "old"),
        (timedelta(days=3), "quarantined", [CRASH], "engine"),
        (timedelta(hours=5), "accepted", [], "engine"),
        (timedelta(hours=5), "rejected", [MALFORMED, CRASH], "engine"),
        (timedelta(minutes=50), "accepted", [], "tool"),
        (timedelta(minutes=20), "accepted", [], "engine"),
    ]:
        format = "" if verdict == "rejected" else "junit"
        sample.submit(project, None, received=now - ago, verdict=verdict, problems=problems, format=format)
    sample.submit("engine", None, received=now - timedelta(minutes=2), name="waits")
    sample.finish()
    return sample


def measured_at(sample: Sample, now: datetime = NOW) -> Quality:
    with sample.database().snapshot() as snapshot:
        return measure(snapshot, Logs(readers(sample.public)), now)


def client_of(sample: Sample) -> TestClient[Litestar]:
    return TestClient(Litestar([*page_routes(sample), *api_routes(sample)], openapi_config=openapi_config()))


# --- figures ---


def test_counts_are_of_what_was_announced_within_the_span(sample: Sample) -> None:
    found = measured_at(filled(sample))
    assert found.spans == {
        "hour": Counts(announced=1, accepted=2),
        "day": Counts(announced=1, accepted=3, rejected=1),
        "week": Counts(announced=1, accepted=3, rejected=1, quarantined=1),
        "ever": Counts(announced=1, accepted=3, rejected=2, quarantined=1),
    }
    assert found.projects == [
        Group(name="engine", announced=1, accepted=2, rejected=1, quarantined=1),
        Group(name="old", rejected=1),
        Group(name="tool", accepted=1),
    ]
    assert found.formats == [Group(name="", rejected=2), Group(name="junit", accepted=3, quarantined=1)]


def test_the_picture_is_the_last_day_in_half_hours(sample: Sample) -> None:
    steps = measured_at(filled(sample)).steps
    assert len(steps) == 48
    assert (steps[0].since, steps[-1].since) == (NOW.replace(day=19, minute=30), NOW.replace(minute=0))
    counts = {f"{one.since:%H:%M}": (one.accepted, one.rejected, one.announced) for one in steps}
    busy = {at: count for at, count in counts.items() if any(count)}
    assert busy == {"07:00": (1, 1, 0), "11:00": (1, 0, 0), "11:30": (1, 0, 0), "12:00": (0, 0, 1)}


def test_reasons_are_counted_by_class_with_the_newest_of_each(sample: Sample) -> None:
    causes = measured_at(filled(sample)).causes
    assert [(one.verdict, one.reason, one.week, one.ever) for one in causes] == [
        ("rejected", "malformed", 1, 2),
        ("quarantined", "crash", 1, 1),
    ]
    assert causes[0].newest == sample.submissions["4"]
    assert causes[0].problem == MALFORMED


def test_sql_and_python_read_the_same_rules(sample: Sample) -> None:
    """Each rule's own words, and words that only look like it."""
    texts = [
        "one of the formats a, b", "one of auto, x", "content that one format claims", "a benchmark of project p",
        "at most 5 bytes", "nesting of at most some", "names and params that make at most 3", "well-formed XML: </a>",
        "UTF-8", "a whole gzip stream", "1,234 bytes with the checksum", "a number", "not at most 5", "",
        "\nat most 5 ",
        "it needs more memory than 3 MiB", "it takes longer than 80 s", "it computes for longer than 1 s",
        "the process ended 3 times", "the process that read it ended with status 3 (EOFError)",
        "the process that read it was ended by SIGKILL", "an object is gone: x", "KeyError: 'it takes longer'",
    ]  # fmt: skip
    expected: dict[tuple[str, str], int] = {}
    for verdict in ("rejected", "quarantined"):
        for text in texts:
            problem = Problem(where="/", expected=text, found=text)
            sample.submit("p", None, received=NOW, verdict=verdict, problems=[problem])
            key = verdict, reason_of(verdict, problem)
            expected[key] = expected.get(key, 0) + 1
    sample.submit("p", None, received=NOW, verdict="rejected")
    expected["rejected", "content"] += 1
    sample.finish()
    assert {(one.verdict, one.reason): one.ever for one in measured_at(sample).causes} == expected
    assert expected.keys() == {(reason.verdict, reason.id) for reason in REASONS}


def test_durations_are_from_receipt_to_outcome(sample: Sample) -> None:
    found = measured_at(filled(sample)).durations
    assert (found.median_seconds, found.p99_seconds) == (2, 2)
    none = measured_at(sample, NOW + timedelta(days=9)).durations
    assert (none.median_seconds, none.p99_seconds) == (None, None)


def test_an_empty_dashboard_has_a_quality_and_a_page(sample: Sample) -> None:
    assert measured_at(sample).spans["ever"] == Counts()
    with client_of(sample) as client:
        assert "Nothing was announced" in client.get("/quality").text


# --- how far behind ---


def test_lag_is_that_of_the_oldest_without_an_outcome(sample: Sample) -> None:
    found = measured_at(filled(sample))
    announced = NOW - timedelta(minutes=2) + timedelta(seconds=1)
    assert found.processing == Stage(waiting=1, oldest=announced, lag_seconds=119)
    assert found.oldest_waiting == [Overdue(id=sample.submissions["waits"], project="engine", announced=announced)]
    assert found.loading == Stage(waiting=0, oldest=None, lag_seconds=0)


def quality_of(chain: Chain, dashboard: object) -> Quality:
    with dashboard.database().snapshot() as snapshot:  # type: ignore[attr-defined]
        return measure(snapshot, Logs(chain.reader_of), chain.now)


def test_what_is_processed_and_not_loaded_is_lag_of_loading_alone(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    batch = chain.push_batch(measured(1), measured(2))
    waiting = chain.now
    with chain.dashboard() as dashboard:
        load(dashboard)
        chain.pass_time(seconds=10)
        found = quality_of(chain, dashboard)
        assert found.processing == Stage(waiting=2, oldest=waiting, lag_seconds=10)
        assert found.loading.waiting == 0
        chain.process(batch)
        chain.announce_outcomes()
        processed = chain.now
        chain.pass_time(seconds=5)
        found = quality_of(chain, dashboard)
        assert found.processing == Stage(waiting=0, oldest=None, lag_seconds=0)
        assert found.loading == Stage(waiting=1, oldest=processed, lag_seconds=5)
        chain.push_batch(measured(3))
        assert quality_of(chain, dashboard).loading.waiting == 2  # an outcome and a submission
        load(dashboard)
        assert quality_of(chain, dashboard).loading.waiting == 0


def test_of_logs_that_cannot_be_read_lag_is_unknown_and_the_rest_is_told(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
        chain.public.before = failing("head", "feeds/", Unavailable("storage is away"))
        found = quality_of(chain, dashboard)
        unknown = Stage(waiting=None, oldest=None, lag_seconds=None)
        assert (found.processing, found.loading) == (unknown, unknown)
        assert found.spans["ever"].accepted == 1
        values = quality_page.values(found)
        assert values["quality"] is found


# --- answers ---


def test_quality_has_no_etag_since_it_changes_with_the_clock(sample: Sample) -> None:
    with client_of(filled(sample, datetime.now(UTC))) as client:
        for path in ("/api/v1/quality", "/quality"):
            answer = client.get(path, headers={"if-none-match": "*"})
            assert answer.status_code == 200
            assert "etag" not in answer.headers
            assert answer.headers["cache-control"] == "no-cache"
        told = client.get("/api/v1/quality").json()
        assert told["spans"]["week"] == {"announced": 1, "accepted": 3, "rejected": 1, "quarantined": 1, "withdrawn": 0}
        assert told["data_version"] == "v1-7-7"
        assert client.get("/api/v1/quality?since=x").status_code == 400
        assert client.get("/api/v1/quality", headers={"accept": "text/csv"}).status_code == 406
        assert "/api/v1/quality" in client.get("/api/v1/openapi.json").json()["paths"]


class Asked:
    """A Watch whose time passes only as a test says, and tells by the minute which making an answer is of."""

    def __init__(self, sample: Sample) -> None:
        self.seconds = 100.0
        self.takes_seconds = 0.0
        self.makings = itertools.count()
        self.watch = Watch(Desk(filled(sample), AnswerCache(0), dict), self.clock, lambda: self.seconds)

    def clock(self) -> datetime:
        self.seconds += self.takes_seconds
        return NOW.replace(minute=next(self.makings))

    def after(self, seconds: float) -> int:
        self.seconds += seconds
        return self.watch.quality().at.minute


def test_however_many_ask_it_is_made_every_few_seconds_at_most(sample: Sample) -> None:
    asked = Asked(sample)
    assert [asked.after(0.2) for _ in range(20)] == [0] * 20
    assert [asked.after(1.2), asked.after(1)] == [1, 1]


def test_what_takes_long_to_make_is_made_more_seldom(sample: Sample) -> None:
    asked = Asked(sample)
    asked.takes_seconds = 4.0
    assert [asked.after(0), asked.after(35), asked.after(2)] == [0, 0, 1]


def test_while_it_is_made_again_others_get_the_one_before(sample: Sample) -> None:
    """So that they do not hold all threads of the server."""
    asked = Asked(sample)
    found: list[int] = []
    assert asked.after(0) == 0
    asked.watch._clock = lambda: found.append(asked.watch.quality().at.minute) or asked.clock()  # type: ignore[func-returns-value]
    assert asked.after(10) == 1
    assert found == [0]


def test_the_page_shows_the_figures_and_links_to_the_files(sample: Sample) -> None:
    with client_of(filled(sample, datetime.now(UTC))) as client:
        text = client.get("/quality").text
        page = html.document_fromstring(text)
        words = " ".join(page.text_content().split())
        assert "damaged or cut off: not well-formed" in words
        assert "1 announced, without an outcome yet" in words
        assert "<script>alert(1)" not in text
        links = {link for link in page.xpath("//@href") if link.startswith("/submissions/")}
        assert links == {f"/submissions/{sample.submissions[name]}" for name in ("1", "2", "4", "waits")}
        assert page.xpath("//nav//a[@aria-current]/@href") == ["/quality"]
        drawn = [rect.get("class") for rect in page.xpath("//svg//rect") if rect.get("class") != "whole"]
        assert {*drawn} == {"accepted", "rejected", "announced"}
        assert "/quality" in html.document_fromstring(client.get("/").text).xpath("//nav//a/@href")


# --- picture and words ---


def test_bars_stack_from_the_bottom_and_few_are_seen_beside_many() -> None:
    picture = drawing.bars([(0, 0), (50, 50), (1000, 1)])
    (_, nothing), (_, half), (_, most) = picture.columns
    assert nothing == [(picture.bottom, 0.0)] * 2
    assert half[0][0] + half[0][1] == pytest.approx(picture.bottom)
    assert half[1][0] + half[1][1] == pytest.approx(half[0][0], abs=0.11)
    assert most[1][1] == 1.5
    assert picture.highest == 1001
    assert [x for x, _ in picture.columns] == sorted({x for x, _ in picture.columns})
    assert drawing.bars([(0,)] * 48).highest == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (0.25, "250 ms"),
        (59.0, "59 s"),
        (420.0, "7 min"),
        (18_720.0, "5.2 h"),
        (3e5, "3.5 days"),
    ],
)
def test_an_age_reads_in_its_best_unit(seconds: float | None, text: str) -> None:
    assert quality_page.age(seconds) == text


def test_every_class_of_the_picture_has_a_colour() -> None:
    css = (Path(drawing.__file__).parent / "static/app.css").read_text()
    for name in quality_page.CLASSES:
        assert re.search(rf"\.bars \.{name} {{ fill: var\(", css)
