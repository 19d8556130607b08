"""The pages: what they show, that nothing a stranger sent can act in them, and how they behave in a real browser."""

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import TestClient
from lxml import html
from playwright.sync_api import Browser, BrowserContext, Page, expect

import dashboard_api
from dashboard_api import display, drawing, summaries, trends
from dashboard_api.api import api_routes, openapi_config
from dashboard_api.page_values import ROWS_LISTED
from dashboard_api.pages import page_routes
from dashboard_api.rendering import CONTENT_SECURITY_POLICY
from processor.tables import RunFacts, Tables
from schemas import keys
from schemas.records import Blob, Chunk, Commit, Context, Problem, Project, Submission
from tests import sample_dashboard
from tests.browser import served
from tests.sample_dashboard import START, Sample

VENDOR = Path(dashboard_api.__file__).parent / "static" / "vendor"
HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"
UNKNOWN = "0" * 24


def make_app(sample: Sample) -> Litestar:
    return Litestar([*page_routes(sample), *api_routes(sample)], openapi_config=openapi_config())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Never changed by a test."""
    made = sample_dashboard.filled(tmp_path_factory.mktemp("dashboard"))
    yield made
    made.opened.close()


@pytest.fixture(scope="module")
def client(sample: Sample) -> Iterator[TestClient[Litestar]]:
    with TestClient(make_app(sample)) as made:
        yield made


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[Sample]:
    """Empty, for a test to fill."""
    made = sample_dashboard.empty(tmp_path)
    yield made
    made.opened.close()


def page_of(client: TestClient[Litestar], url: str, status: int = 200) -> html.HtmlElement:
    answer = client.get(url)
    assert answer.status_code == status, f"{url}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return html.document_fromstring(answer.text)


def text_of(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def some_pages(sample: Sample) -> list[str]:
    """One address of every kind of page."""
    return [
        "/",
        "/projects/fastlib",
        "/projects/conformance",
        "/runs",
        f"/runs/{run_with_tests(sample)}",
        f"/runs/{sample.one('SELECT run FROM runs WHERE measurements > 1 LIMIT 1')}",
        f"/runs/{chunked_run(sample)}",
        f"/runs/{conflicting_run(sample)}",
        f"/series/{slowed_series(sample)}",
        "/submissions",
        f"/submissions/{sample.submissions['rejected']}",
        f"/submissions/{sample.submissions['under way']}",
        f"/submissions/{sample.submissions['chunk 2']}",
        "/quality",
    ]


def run_with_tests(sample: Sample) -> str:
    return sample.one("SELECT run FROM runs WHERE title = 'unit tests' ORDER BY seq DESC LIMIT 1")


def chunked_run(sample: Sample) -> str:
    return sample.one("SELECT run FROM run_chunks LIMIT 1")


def conflicting_run(sample: Sample) -> str:
    return sample.one("SELECT run FROM run_chunks WHERE run_group = 'nightly-78' LIMIT 1")


def slowed_series(sample: Sample) -> str:
    return sample.one(
        "SELECT series FROM series WHERE benchmark = 'parse/large-file' AND environment_title LIKE 'AMD%'"
    )


# --- what the pages show ---


def test_an_empty_dashboard_says_how_to_begin(blank: Sample) -> None:
    with TestClient(make_app(blank)) as client:
        shown = text_of(page_of(client, "/"))
        assert "Nothing here yet" in shown
        assert "make demo" in shown
        assert "runfeed push result.json" in shown
        assert "No run matches" in text_of(page_of(client, "/runs"))
        assert "No submission" in text_of(page_of(client, "/submissions"))


def test_the_overview_shows_projects_runs_and_the_first_reason_of_each_rejection(client: TestClient[Litestar]) -> None:
    page = page_of(client, "/")
    assert {card.get("href") for card in page.xpath("//h3/a")} == {
        "/projects/fastlib",
        "/projects/small-tool",
        "/projects/conformance",
    }
    refused = text_of(page.get_element_by_id("refused").getparent().getparent())
    assert "/runs/0/measurements/3/value expected a finite number, found 'fast' and 2 more" in refused
    assert "1 submission is still being processed" in text_of(page)


def test_each_link_leads_to_something(client: TestClient[Litestar], sample: Sample) -> None:
    """Every address on every kind of page answers 200, except those that the bucket serves, which exist there."""
    seen: set[str] = set()
    waiting = some_pages(sample)
    followed = 0
    while waiting:
        url = waiting.pop()
        if url in seen or followed > 400:
            continue
        seen.add(url)
        if url.startswith("/feeds/"):
            assert url[1:] in [keys.feed_head(log) for log in (keys.SUBMISSIONS_LOG, keys.outcomes_log(1))]
            continue
        if url.startswith("/blobs/"):
            assert keys.SHA256.fullmatch(url.rsplit("/", 1)[1])
            continue
        if url.startswith("/submissions/") and url.endswith(".json"):
            assert sample.public.head(url[1:]).size_bytes
            continue
        followed += 1
        answer = client.get(url)
        assert answer.status_code == 200, url
        if url in some_pages(sample):
            links = html.document_fromstring(answer.text).xpath("//@href | //@src")
            waiting += [urljoin(url, link).partition("#")[0] for link in links if not link.startswith("http")]
    assert followed > 80


def test_the_change_of_a_series_is_coloured_only_by_a_known_direction(client: TestClient[Litestar]) -> None:
    page = page_of(client, "/projects/fastlib?q=render")
    classes = [element.get("class") for element in page.xpath("//*[starts-with(@class, 'change ')]")]
    assert classes == ["change better"] * 4
    page = page_of(client, "/projects/fastlib?q=index")
    assert [element.get("class") for element in page.xpath("//*[starts-with(@class, 'change ')]")] == [
        "change steady"
    ] * 2


def test_a_project_filters_its_series_by_text_and_environment(client: TestClient[Litestar], sample: Sample) -> None:
    apple = sample.one("SELECT environment FROM series WHERE environment_title LIKE 'Apple%' LIMIT 1")
    rows = page_of(client, f"/projects/fastlib?q=parse&environment={apple}").xpath("//tbody/tr[not(@class)]")
    found = [text_of(row) for row in rows if row.xpath(".//a[starts-with(@href, '/series/')]")]
    assert len(found) == 2
    assert all("Apple M2" in row for row in found)
    assert "No series matches" in text_of(page_of(client, "/projects/fastlib?q=nothing-like-this"))


def test_a_project_lists_failing_tests_new_ones_first_and_those_that_no_longer_fail(
    client: TestClient[Litestar],
) -> None:
    page = page_of(client, "/projects/fastlib")
    failing = [text_of(row) for row in page.xpath("//table[@aria-labelledby='failing']/tbody/tr")]
    assert len(failing) == 2
    assert "test_case_042" in failing[0]
    assert "pass" in failing[0]
    assert "AssertionError: expected 42" in failing[0]
    assert "test_case_017" in failing[1]
    fixed = [text_of(row) for row in page.xpath("//table[@aria-labelledby='fixed']/tbody/tr")]
    assert len(fixed) == 1
    assert "test_case_063" in fixed[0]


def test_a_run_shows_its_failures_first_and_the_rest_on_request(client: TestClient[Litestar], sample: Sample) -> None:
    run = run_with_tests(sample)
    page = page_of(client, f"/runs/{run}")
    assert [text_of(tab) for tab in page.xpath("//*[@class='tabs']//*[@aria-current]")] == ["Failures 2"]
    assert "test_case_042" in text_of(page)
    assert "test_case_001" not in text_of(page)
    assert "test_case_001" in text_of(page_of(client, f"/runs/{run}?status=pass&q=case_001"))
    assert "No test matches" in text_of(page_of(client, f"/runs/{run}?status=all&q=absent"))


def test_a_page_never_holds_more_than_a_few_hundred_tests_and_leads_to_all(
    client: TestClient[Litestar], sample: Sample
) -> None:
    url, names = f"/runs/{run_with_tests(sample)}?status=all", []
    while url:
        page = page_of(client, url)
        rows = [text_of(row) for row in page.xpath("//section[@aria-labelledby='tests']//tbody/tr/th")]
        assert 0 < len(rows) <= ROWS_LISTED
        names += rows
        url = next(iter(page.xpath("//section[@aria-labelledby='tests']//a[@rel='next']/@href")), "")
    assert len(names) == len(set(names)) == 260


def test_a_run_in_chunks_says_what_is_missing_until_it_is_whole(tmp_path: Path) -> None:
    sample = sample_dashboard.filled(tmp_path, commits=1)
    with TestClient(make_app(sample)) as client:
        url = f"/runs/{chunked_run(sample)}"
        shown = text_of(page_of(client, url))
        assert "Partial run: 3 of 4 chunks are here. Missing: 3." in shown
        assert "Tests 360" in shown
        sample_dashboard.chunk(sample, 3, 4)
        sample.finish()
        shown = text_of(page_of(client, url))
        assert "Partial run" not in shown
        assert "4 of 4 ✓complete" in shown
        assert "Tests 480" in shown
        sample_dashboard.chunk(sample, 2, 4)
        sample.finish()
        shown = text_of(page_of(client, url))
        assert "4 of 4 ✓complete" in shown
        assert "sent again, counts once" in shown
        assert "Tests 480" in shown
        sample_dashboard.chunk(sample, 2, 5)
        sample.finish()
        page = page_of(client, url)
        assert "Conflict: the chunks of this run contradict each other in 1 thing" in text_of(page)
        [conflict] = page.xpath("//section[@aria-labelledby='conflicts']//tbody/tr")
        assert text_of(conflict).startswith("How many chunks there are")
        assert [text_of(one)[:2] for one in conflict.xpath(".//li")] == ["4 ", "5 "]
    sample.opened.close()


def test_a_run_page_names_each_conflict_with_the_submissions_that_disagree(
    client: TestClient[Litestar], sample: Sample
) -> None:
    page = page_of(client, f"/runs/{conflicting_run(sample)}")
    rows = page.xpath("//section[@aria-labelledby='conflicts']//tbody/tr")
    told = [text_of(row.find("th")) for row in rows]
    assert told == [
        "Chunk 1 was sent with different contents",
        "A test in two chunks/dom/2/case-44.htmlrendering",
        "A test in two chunks/dom/2/case-45.htmlrendering",
    ]
    assert all(len(row.xpath(".//li/a[starts-with(@href, '/submissions/')]")) == 2 for row in rows)
    assert len(page.xpath("//section[@aria-labelledby='chunks']//tbody/tr")) == 3
    assert "Partial run: 2 of 3 chunks are here. Missing: 3." in text_of(page)


@pytest.mark.parametrize("url", ["/runs", "/runs?project=conformance", "/projects/conformance", "/submissions/{chunk}"])
def test_no_list_shows_a_partial_or_conflicting_run_as_a_complete_one(
    client: TestClient[Litestar], sample: Sample, url: str
) -> None:
    names = {f"/runs/{chunked_run(sample)}": "3 of 4 chunks", f"/runs/{conflicting_run(sample)}": "!conflict"}
    page = page_of(client, url.format(chunk=sample.submissions["chunk 2"]))
    for run, badge in names.items():
        cells = page.xpath(f"//th[a[@href='{run}']]")
        assert cells or "submissions" in url
        assert all(badge in text_of(cell) for cell in cells)


def test_a_comparison_with_a_run_that_is_not_complete_says_so(client: TestClient[Litestar], sample: Sample) -> None:
    shown = text_of(page_of(client, "/projects/conformance"))
    assert "is in conflict with itself: what it does not hold counts neither as fixed nor as passed" in shown
    assert "browser conformance has no complete run before; it is compared with one that is partial" in shown
    assert "no complete run before" not in text_of(page_of(client, "/projects/fastlib"))


def test_a_series_marks_values_of_runs_that_are_not_complete(blank: Sample) -> None:
    def fill(tables: Tables) -> None:
        run = tables.run(RunFacts(title="one"))
        run.measurement(where="/0", benchmark="one", metric="m", value=1.0 + tables.seq)

    for index in (1, 2):
        context = Context(chunk=Chunk(group=f"g{index}", index=1, total=2))
        blank.submit("new", fill, received=START + timedelta(days=index), context=context)
    blank.submit("new", fill, received=START + timedelta(days=3))
    blank.finish()
    with TestClient(make_app(blank)) as client:
        rows = page_of(client, f"/series/{blank.one('SELECT series FROM series')}").xpath("//tbody/tr/th")
        assert ["◔partial" in text_of(row) for row in rows] == [False, True, True]
        assert "2 incomplete" in text_of(page_of(client, "/projects/new"))


def test_what_a_test_says_besides_is_folded_away(client: TestClient[Litestar], sample: Sample) -> None:
    page = page_of(client, f"/runs/{chunked_run(sample)}?status=all&q=case-44.html")
    folded = page.xpath("//section[@aria-labelledby='tests']//details[@class='extra' and not(@open)]")
    assert len(folded) == 3
    assert '{"asserts":{"count":3,"max":2,"min":0}}' in text_of(folded[0])


def test_a_run_offers_the_formats_that_can_carry_it(client: TestClient[Litestar], sample: Sample) -> None:
    def offered(run: str) -> list[str]:
        links = page_of(client, f"/runs/{run}").xpath("//a[contains(@href, '/export?')]/@href")
        assert all(client.get(link).status_code == 200 for link in links)
        return [link.partition("as=")[2] for link in links]

    assert offered(run_with_tests(sample)) == ["junit", "ctrf", "csv", "parquet"]
    measured = sample.one("SELECT run FROM runs WHERE measurements > 1 LIMIT 1")
    assert offered(measured) == ["pytest-benchmark", "bmf", "csv", "parquet"]


def test_a_run_sent_again_points_to_the_first_and_counts_once(client: TestClient[Litestar], sample: Sample) -> None:
    again = page_of(client, f"/submissions/{sample.submissions['again']}")
    run = again.xpath("//a[starts-with(@href, '/runs/')]/@href")[0]
    first = sample.one("SELECT run FROM runs WHERE project = 'small-tool' AND duplicate_of IS NULL")
    assert page_of(client, run).xpath(f"//*[@class='warning']//a[@href='/runs/{first}']")
    series = sample.one("SELECT series FROM series WHERE project = 'small-tool'")
    assert len(page_of(client, f"/series/{series}").xpath("//tbody/tr")) == 1


def test_a_series_has_a_drawing_and_a_table_without_javascript(client: TestClient[Litestar], sample: Sample) -> None:
    url = f"/series/{slowed_series(sample)}"
    page = page_of(client, url)
    assert len(page.xpath("//*[@class='plain']//*[@class='dot']")) == 40
    assert len(page.xpath("//tbody/tr")) == 40
    assert text_of(page.xpath("//tbody//td[@class='num']")[0]).endswith(" ms")
    part = page_of(client, f"{url}?from=2026-09-10&to=2026-09-20")
    times = [element.get("datetime")[:10] for element in part.xpath("//tbody//time")]
    assert times[0] == "2026-09-20"
    assert times[-1] == "2026-09-10"
    assert "No value in this range" in text_of(page_of(client, f"{url}?from=2030-01-01"))


def test_a_series_names_the_same_measurement_elsewhere(client: TestClient[Litestar], sample: Sample) -> None:
    page = page_of(client, f"/series/{slowed_series(sample)}")
    other = sample.one(
        "SELECT series FROM series WHERE benchmark = 'parse/large-file' AND environment_title LIKE 'Apple%'"
    )
    assert page.xpath("//*[@data-overlay]//input/@value") == [other]


def test_a_submission_shows_its_way_and_every_problem(client: TestClient[Litestar], sample: Sample) -> None:
    page = page_of(client, f"/submissions/{sample.submissions['rejected']}")
    assert [text_of(step) for step in page.xpath("//*[@class='way']//b")] == ["received", "announced", "rejected"]
    problems = page.xpath("//section[@aria-labelledby='problems']//tbody/tr")
    assert len(problems) == 3
    cells = [text_of(cell) for cell in problems[0]]
    assert cells == ["/runs/0/measurements/3/value", "a finite number", "'fast'", "refused"]
    assert not page.xpath("//script[contains(@src, 'submission')]")
    page = page_of(client, f"/submissions/{sample.submissions['under way']}")
    assert [text_of(step) for step in page.xpath("//*[@class='way']//b")] == ["received", "announced", "processed"]
    assert page.xpath("//script[contains(@src, 'submission')]")
    assert "our fault" in text_of(page_of(client, f"/submissions/{sample.submissions['quarantined']}"))


def test_a_submission_lists_the_fields_that_reached_no_column_and_where_they_still_are(
    client: TestClient[Litestar], sample: Sample
) -> None:
    page = page_of(client, f"/submissions/{sample.submissions['chunk 2']}")
    [row] = page.xpath("//section[@aria-labelledby='unread']//tbody/tr")
    assert [text_of(cell) for cell in row] == ["/results/*/screenshots", "120"]
    [link] = page.xpath("//section[@aria-labelledby='unread']/p/a/@href")
    assert link.startswith("/blobs/")
    rejected = page_of(client, f"/submissions/{sample.submissions['rejected']}")
    assert not rejected.xpath("//section[@aria-labelledby='unread']")


def test_a_submission_that_is_stored_but_not_announced_is_received(blank: Sample) -> None:
    id = "ab" * 32
    record = Submission(
        id=id, nonce="0" * 32, project="new", blob=Blob(sha256="cd" * 32, size_bytes=12), received=START
    )
    blank.public.create(keys.submission(id), msgspec.json.encode(record))
    with TestClient(make_app(blank)) as client:
        page = page_of(client, f"/submissions/{id}")
        assert page.get_element_by_id("state").get("data-state") == "received"
        assert client.get(f"/submissions/{id}").headers.get("etag") is None


def test_submissions_are_listed_by_state(client: TestClient[Litestar], sample: Sample) -> None:
    page = page_of(client, "/submissions?state=rejected")
    assert [link.get("href") for link in page.xpath("//tbody//th/a")] == [
        f"/submissions/{sample.submissions['rejected']}"
    ]
    older = page_of(client, "/submissions").xpath("//a[@rel='next']/@href")
    first = set(page_of(client, "/submissions").xpath("//tbody//th/a/@href"))
    assert not first & set(page_of(client, older[0]).xpath("//tbody//th/a/@href"))


# --- errors ---


@pytest.mark.parametrize(
    "url",
    [
        "/projects/absent",
        "/projects/..%2f..%2fetc",
        f"/runs/{UNKNOWN}",
        f"/series/{UNKNOWN}",
        f"/submissions/{'0' * 64}",
        "/submissions/short",
        "/static/x/../pages.py",
        "/static/x/absent.js",
    ],
)
def test_what_is_unknown_gets_a_page_that_says_so(client: TestClient[Litestar], url: str) -> None:
    answer = client.get(url)
    assert answer.status_code == 404
    if "pages.py" not in url and "%2f" not in url:  # those are no address of ours at all
        page = html.document_fromstring(answer.text)
        assert text_of(page.find(".//h1")) == "Not found"
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "etag" not in answer.headers


@pytest.mark.parametrize("query", ["/runs?commit=ab", "/runs?before=no-cursor", "/submissions?state=odd", "/runs?q="])
def test_a_wrong_parameter_is_told_in_words(client: TestClient[Litestar], sample: Sample, query: str) -> None:
    if query == "/runs?q=":
        query = f"/series/{slowed_series(sample)}?from=yesterday"
    page = page_of(client, query, 400)
    assert "expected" in text_of(page)


def test_a_parameter_that_is_too_long_is_refused(client: TestClient[Litestar]) -> None:
    assert "q:" in text_of(page_of(client, "/projects/fastlib?q=" + "x" * 5000, 400))


# --- nothing a stranger sent acts ---


@pytest.fixture
def hostile(blank: Sample) -> Sample:
    """Every text that a stranger may choose tries to be markup or a script."""
    commit = Commit(id="feed" + HOSTILE, parents=[HOSTILE, "c0ffee"], time=START, subject=HOSTILE, branch=HOSTILE)
    labels = {HOSTILE: HOSTILE, "page": LINK, "other": "data:text/html,<script>alert(1)</script>"}
    context = Context(commit=commit, environment=HOSTILE, labels=labels)
    blank.public.create(
        keys.project("victim"),
        msgspec.json.encode(Project(name="victim", title=HOSTILE, description=HOSTILE, url=LINK, created=START)),
    )

    def fill(tables: Tables) -> None:
        facts = RunFacts(title=HOSTILE, commit=commit, machine_extra={HOSTILE: HOSTILE})
        run = tables.run(facts)
        for metric in (HOSTILE, "time"):
            run.measurement(
                where="/0", benchmark=HOSTILE, metric=metric, unit=HOSTILE, params={HOSTILE: HOSTILE}, value=1.0,
                benchmark_version=HOSTILE,
            )  # fmt: skip
        run.test(
            where="/1", test=HOSTILE, subtest=HOSTILE, status="fail", message=HOSTILE, expected=HOSTILE,
            extra={HOSTILE: HOSTILE},
        )  # fmt: skip
        tables.leave_unread(HOSTILE)
        run.test(where="/2", test=HOSTILE, subtest="odd", status=HOSTILE)

    problem = Problem(where=HOSTILE, expected=HOSTILE, found=HOSTILE, effect="kept")
    for day in (0, 1):
        received = START + timedelta(days=day)
        blank.submit("victim", fill, received=received, context=context, problems=[problem], name="accepted")
    blank.submit("victim", None, received=received, verdict="rejected", problems=[problem], format=HOSTILE)
    blank.finish()
    return blank


def test_texts_of_strangers_are_shown_and_never_act(hostile: Sample) -> None:
    run = hostile.one("SELECT run FROM runs ORDER BY seq DESC LIMIT 1")
    urls = [
        "/",
        "/projects/victim",
        "/runs",
        f"/runs/{run}",
        f"/runs/{run}?status=all&q=script",
        f"/series/{hostile.one('SELECT series FROM series LIMIT 1')}",
        "/submissions",
        f"/submissions/{hostile.submissions['accepted']}",
    ]
    with TestClient(make_app(hostile)) as client:
        for url in urls:
            page = page_of(client, url)
            assert_nothing_acts(page, url)
            assert "<script>" in page.text_content(), url
        page = page_of(client, "/projects/victim?q=" + HOSTILE.replace("#", "%23"))
        assert_nothing_acts(page, "q")
        assert page.xpath("//input[@name='q']/@value") == [HOSTILE]


def assert_nothing_acts(page: html.HtmlElement, url: str) -> None:
    for script in page.iter("script"):
        assert script.get("src", "").startswith("/static/"), url
        assert not script.text, url
    assert not page.xpath("//style | //@style | //iframe | //object | //base"), url
    assert not [name for element in page.iter(html.etree.Element) for name in element.attrib if name.startswith("on")]
    for link in page.xpath("//@href | //@src | //@action"):
        assert urlsplit(link).scheme in ("", "http", "https"), (url, link)


def test_no_page_asks_another_host_for_anything(client: TestClient[Litestar], sample: Sample) -> None:
    for url in some_pages(sample):
        page = page_of(client, url)
        for address in page.xpath("//link/@href | //@src | //form/@action"):
            assert address.startswith(("/", "#")), (url, address)
            assert not address.startswith("//"), (url, address)
    for asset in (VENDOR.parent / "app.css", VENDOR.parent / "graph.js", VENDOR.parent / "submission.js"):
        assert not re.search(r"https?://|url\(|@import|\beval\b|innerHTML", asset.read_text())


def test_every_page_carries_the_strict_policy_and_nothing_inline(client: TestClient[Litestar], sample: Sample) -> None:
    for url in some_pages(sample):
        answer = client.get(url)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert_nothing_acts(html.document_fromstring(answer.text), url)


@given(st.text(max_size=60))
def test_only_web_addresses_become_links(text: str) -> None:
    for candidate in (text, "javascript:" + text, "java\nscript:" + text, "//" + text, "http:" + text):
        url = display.web_url(candidate)
        assert url == "" or re.match(r"https?://[^/]", url, re.IGNORECASE)


# --- caching ---


def test_a_page_is_sent_again_only_when_data_or_release_changed(tmp_path: Path) -> None:
    sample = sample_dashboard.filled(tmp_path, commits=2)
    with TestClient(make_app(sample)) as client:
        for url in set(some_pages(sample)) - {"/quality"}:  # that one changes with the clock
            etag = client.get(url).headers["etag"]
            again = client.get(url, headers={"if-none-match": f'"other", W/{etag}'})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        before = client.get("/").headers["etag"]
        sample.submit("fastlib", None, received=START, verdict="rejected")
        sample.finish()
        assert client.get("/", headers={"if-none-match": before}).status_code == 200
        project = client.get("/projects/fastlib").headers["etag"]
        body, etag = sample.public.read_versioned(keys.project("fastlib"))
        record = msgspec.structs.replace(msgspec.json.decode(body, type=Project), description="New words")
        sample.public.swap(keys.project("fastlib"), msgspec.json.encode(record), etag=etag)
        answer = client.get("/projects/fastlib", headers={"if-none-match": project})
        assert answer.status_code == 200
        assert "New words" in answer.text
    sample.opened.close()


def test_static_files_are_kept_for_ever_under_their_digest_only(client: TestClient[Litestar]) -> None:
    address = page_of(client, "/").xpath("//link[@rel='stylesheet']/@href")[0]
    answer = client.get(address)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    _, _, digest, name = address.split("/")
    assert re.fullmatch(r"[0-9a-f]{16}", digest)
    assert client.get(f"/static/{'0' * 16}/{name}").headers["cache-control"] == "no-cache"


def test_vendored_files_are_what_their_note_says() -> None:
    """Each vendored folder lists the digest of every file in it but the note itself."""
    for folder in VENDOR.iterdir():
        listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (folder / "VENDORED.md").read_text(), re.MULTILINE))
        found = {
            hashlib.sha256(path.read_bytes()).hexdigest(): path.name
            for path in folder.iterdir()
            if path.name != "VENDORED.md"
        }
        assert listed == found
        assert "LICENSE" in listed.values()
    assert len(list(VENDOR.iterdir())) == 1


# --- figures ---


def test_a_change_is_measured_against_the_median_of_the_ten_before() -> None:
    found = trends.change([1, 1, 100, *[10.0] * 10, 12.0], "lower")
    assert found is not None
    assert (round(found.ratio, 6), found.verdict, found.compared) == (0.2, "worse", 10)
    assert found.percent == "+20 %"


@pytest.mark.parametrize(
    ("values", "better", "verdict"),
    [
        ([10.0] * 5 + [8.0], "lower", "better"),
        ([10.0] * 5 + [8.0], "higher", "worse"),
        ([10.0] * 5 + [8.0], "", "changed"),
        ([10.0] * 5 + [10.04], "lower", "steady"),
        ([9.0, 10.0, 11.0, 10.0, 9.0, 11.0, 12.5], "lower", "steady"),
        ([0.0, 0.0, 0.0], "lower", "steady"),
    ],
)
def test_a_change_within_the_usual_spread_is_steady_and_without_direction_only_changed(
    values: list[float], better: str, verdict: str
) -> None:
    found = trends.change(values, better)
    assert found is not None
    assert found.verdict == verdict


def test_without_a_yardstick_there_is_no_change() -> None:
    assert trends.change([], "lower") is None
    assert trends.change([5.0], "lower") is None
    assert trends.change([0.0, 5.0], "lower") is None


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=50))
def test_a_sparkline_stays_in_its_box(values: list[float]) -> None:
    line = drawing.sparkline(values)
    assert line is not None
    for place in line.points.split():
        x, y = map(float, place.split(","))
        assert 0 <= x <= line.width
        assert 0 <= y <= line.height


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (91_500_000.0, "ns", "91.50 ms"),
        (0.0021, "s", "2.100 ms"),
        (3600.0, "s", "3,600 s"),
        (4096.0, "B", "4 KiB"),
        (1234567.0, "rows/s", "1,234,567 rows/s"),
        (-0.01234567, "", "−0.01235"),
        (1.5e-9, "kg", "1.500e−09 kg"),
        (0.0, "ns", "0 ns"),
        (None, "ns", "–"),
    ],
)
def test_quantities_read_well(value: float | None, unit: str, shown: str) -> None:
    assert display.quantity(value, unit) == shown


def test_newest_values_come_in_time_order_and_only_so_many(sample: Sample) -> None:
    series = slowed_series(sample)
    with sample.opened.snapshot() as snapshot:
        found = summaries.recent(snapshot, [series], 5)[series]
        rows = snapshot.rows(
            "SELECT m.value FROM measurements m JOIN runs r USING (seq, run) WHERE series = ? ORDER BY commit_time",
            [series],
        )
    assert found.values == [row["value"] for row in rows[-5:]]


# --- in a browser ---


@pytest.fixture(scope="module")
def address(sample: Sample) -> Iterator[str]:
    with served(make_app(sample)) as made:
        yield made


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A window whose pages may neither complain in the console nor ask another host."""
    made = chromium.new_context(viewport={"width": 1200, "height": 900}, timezone_id="Pacific/Auckland")
    complaints: list[str] = []
    made.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    made.on("weberror", lambda error: complaints.append(str(error.error)))
    made.on("request", lambda one: urlsplit(one.url).hostname != "127.0.0.1" and complaints.append(one.url))
    yield made
    made.close()
    assert complaints == []


def open_graph(context: BrowserContext, address: str, sample: Sample, query: str = "") -> Page:
    page = context.new_page()
    page.goto(f"{address}/series/{slowed_series(sample)}{query}")
    expect(page.locator("#graph canvas")).to_be_visible()
    return page


def drag(page: Page, start: float, end: float) -> None:
    """From one part of the graph's width to another."""
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, middle)
    page.mouse.move(box["x"] + box["width"] * end, middle)
    page.mouse.up()


@pytest.mark.browser
def test_hovering_tells_commit_value_and_environment_and_a_click_opens_the_run(
    context: BrowserContext, address: str, sample: Sample
) -> None:
    page = open_graph(context, address, sample)
    page.locator(".u-over").hover()
    readout = page.locator(".readout")
    expect(readout).to_contain_text("ms")
    expect(readout).to_contain_text("AMD EPYC 7763")
    expect(readout).to_contain_text(re.compile("|".join(map(re.escape, sample_dashboard.SUBJECTS))))
    page.locator(".u-over").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f]{24}$"))
    expect(page.locator("h1")).to_have_text("benchmarks")


@pytest.mark.browser
def test_a_zoom_is_in_the_address_survives_a_reload_and_back_undoes_it(
    context: BrowserContext, address: str, sample: Sample
) -> None:
    page = open_graph(context, address, sample)
    whole = page.url
    drag(page, 0.6, 0.9)
    page.wait_for_url(re.compile("from="))
    zoomed = page.url
    begins = page.locator("input[name=from]").input_value()
    assert begins > "2026-09-20"
    page.reload()
    expect(page.locator("#graph canvas")).to_be_visible()
    expect(page.locator("input[name=from]")).to_have_value(begins)
    rows = page.locator("tbody tr").count()
    assert 8 < rows < 16, "the table shows the range too"
    page.goto(whole)
    expect(page.locator("#graph canvas")).to_be_visible()
    drag(page, 0.6, 0.9)
    page.wait_for_url(re.compile("from="))
    assert page.url == zoomed
    page.go_back()
    expect(page.locator("input[name=from]")).to_have_value("")
    assert page.url == whole


@pytest.mark.browser
def test_a_double_click_shows_everything_again_and_opens_no_run(
    context: BrowserContext, address: str, sample: Sample
) -> None:
    page = open_graph(context, address, sample, "?from=2026-09-10&to=2026-09-20")
    expect(page.locator("input[name=from]")).to_have_value("2026-09-10")
    page.locator(".u-over").dblclick()
    expect(page.locator("input[name=from]")).to_have_value("")
    page.wait_for_timeout(500)
    assert page.url.endswith(f"/series/{slowed_series(sample)}")


@pytest.mark.browser
@pytest.mark.parametrize("value", [5.0, 0.0, -3.0])
def test_a_single_value_is_drawn_on_either_scale(context: BrowserContext, tmp_path: Path, value: float) -> None:
    sample = sample_dashboard.empty(tmp_path)

    def fill(tables: Tables) -> None:
        tables.run(RunFacts(title="one")).measurement(where="/0", benchmark="one", metric="m", value=value)

    sample.submit("new", fill, received=START)
    sample.finish()
    with served(make_app(sample)) as address:
        page = context.new_page()
        page.goto(f"{address}/series/{sample.one('SELECT series FROM series')}")
        expect(page.locator("#graph canvas")).to_be_visible()
        page.locator("#graph").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".readout strong")).to_have_text(str(int(value)) + " ")
        page.get_by_label("Log scale").check()
        expect(page.locator("#graph canvas")).to_be_visible()
    sample.opened.close()


@pytest.mark.browser
def test_axis_scale_and_other_environments_are_switches_kept_in_the_address(
    context: BrowserContext, address: str, sample: Sample
) -> None:
    page = open_graph(context, address, sample)
    page.get_by_role("button", name="Time").click()
    page.get_by_label("Log scale").check()
    page.get_by_label(re.compile("Apple M2")).check()
    page.wait_for_url(re.compile("with="))
    assert "x=time" in page.url
    assert "log=1" in page.url
    page.reload()
    expect(page.get_by_role("button", name="Time")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Log scale")).to_be_checked()
    expect(page.get_by_label(re.compile("Apple M2"))).to_be_checked()
    expect(page.locator("#graph canvas")).to_be_visible()


@pytest.mark.browser
def test_the_graph_is_usable_with_the_keyboard(context: BrowserContext, address: str, sample: Sample) -> None:
    page = open_graph(context, address, sample)
    page.locator("#graph").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    third = sample_dashboard.commit(2)
    expect(page.locator(".readout")).to_contain_text(third.id[:7])
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/runs/"))
    expect(page.locator("dl")).to_contain_text(third.id)


@pytest.mark.browser
def test_without_javascript_the_drawing_stays(chromium: Browser, address: str, sample: Sample) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/series/{slowed_series(sample)}")
    expect(page.locator("svg.plain")).to_be_visible()
    expect(page.get_by_label("Log scale")).to_be_hidden()
    page.locator("input[name=from]").fill("2026-10-01")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(17)
    context.close()


@pytest.mark.browser
def test_a_submission_page_follows_its_submission_to_the_end(context: BrowserContext, tmp_path: Path) -> None:
    sample = sample_dashboard.empty(tmp_path)
    sample.submit("new", None, received=START, name="under way")
    sample.finish()
    with served(make_app(sample)) as address:
        page = context.new_page()
        page.goto(f"{address}/submissions/{sample.submissions['under way']}")
        expect(page.locator("#state")).to_contain_text("announced")
        sample.opened.writer.execute(
            "INSERT INTO outcomes (seq, verdict, finished, problems_total) VALUES (1, 'rejected', now(), 0)"
        )
        sample.opened.writer.execute("UPDATE cursors SET seq = seq + 1")
        expect(page.locator("#state")).to_contain_text("rejected", timeout=15_000)
    sample.opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 760, 1600])
def test_no_page_is_wider_than_its_window(chromium: Browser, address: str, sample: Sample, width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for url in some_pages(sample):
        page.goto(address + url)
        if "/series/" in url:
            expect(page.locator("#graph canvas")).to_be_visible()
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, (url, over)
    context.close()
