"""Every filtered list is a feed: the same rows as Atom and as JSON Feed, which ordinary readers understand alike."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

import atoma
import feedparser
import jsonfeed
import msgspec
import pytest
import zstandard
from litestar import Litestar
from litestar.testing import TestClient
from lxml import etree, html

from dashboard_api.api import api_routes, openapi_config
from dashboard_api.feed_entries import PROBLEMS_TOLD
from dashboard_api.pages import page_routes
from feed.atom import feed_id, legal
from infra.web import exception_handlers
from ingest.admit import admit
from processor.tables import RunFacts, Tables
from schemas import keys
from schemas.records import Blob, Commit, Context, Problem, Trust
from tests import sample_dashboard
from tests.chain import Chain, load, measured
from tests.sample_dashboard import START, Sample
from tests.test_pages import some_pages
from tests.test_withdrawn_state import REASON, revise_without, withdraw

ATOM = "{http://www.w3.org/2005/Atom}"
HOST = "http://testserver.local"
LOGS = ["/feeds/submissions/current.atom", "/feeds/outcomes-v1/current.atom"]
HOSTILE = "<script>alert('x')</script>]]>&amp; \x00\x08\ufffe\x1b \u202eevil\u202c عربي 💥 <b>"


def client_of(source: Any, public_url: str = "") -> TestClient[Litestar]:
    routes = [*page_routes(source), *api_routes(source, public_url=public_url)]
    return TestClient(
        Litestar(routes, openapi_config=openapi_config(), exception_handlers=exception_handlers, logging_config=None)
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Never changed by a test."""
    made = sample_dashboard.filled(tmp_path_factory.mktemp("dashboard"), commits=6)
    yield made
    made.opened.close()


@pytest.fixture(scope="module")
def client(sample: Sample) -> Iterator[TestClient[Litestar]]:
    with client_of(sample) as made:
        yield made


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


def atom(client: TestClient[Litestar], url: str) -> Any:
    """What feedparser makes of the feed at `url`, which must be well-formed."""
    answer = client.get(url)
    assert answer.status_code == 200, f"{url}: {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/atom+xml"
    feed = feedparser.parse(answer.content)
    assert not feed.bozo, feed.get("bozo_exception")
    assert feed.version == "atom10"
    return feed


def json_feed(client: TestClient[Litestar], url: str) -> Any:
    answer = client.get(url)
    assert answer.headers["content-type"] == "application/feed+json"
    return answer.json()


def link(feed: Any, rel: str, type: str | None = None) -> str | None:
    found = [one["href"] for one in feed["links"] if one["rel"] == rel and type in (None, one["type"])]
    assert len(found) < 2
    return found[0] if found else None


def run_ids(feed: Any) -> list[str]:
    return [entry["id"].removeprefix("urn:x-runfeed:run:") for entry in feed["entries"]]


# --- readers ---


@pytest.mark.parametrize("kind", ["runs", "submissions"])
def test_independent_readers_see_the_same_entries(client: TestClient[Litestar], kind: str) -> None:
    document = client.get(f"/api/v1/{kind}.atom").content
    first = feedparser.parse(document)
    second = atoma.parse_atom_bytes(document)
    third = jsonfeed.Feed.parse(json_feed(client, f"/api/v1/{kind}.feed.json"))
    seen = [
        [
            (
                one.id,
                one.title,
                one.link,
                datetime.fromisoformat(one.updated),
                datetime.fromisoformat(one.published),
                [author["name"] for author in one.authors],
                [(file.href, file.type, int(file.length)) for file in one.enclosures],
            )
            for one in first.entries
        ],
        [
            (
                one.id_,
                one.title.value,
                next(link.href for link in one.links if link.rel == "alternate"),
                one.updated,
                one.published,
                [author.name for author in one.authors],
                [(link.href, link.type_, link.length) for link in one.links if link.rel == "enclosure"],
            )
            for one in second.entries
        ],
        [
            (
                one.id,
                one.title,
                one.url,
                datetime.fromisoformat(one.date_modified),
                datetime.fromisoformat(one.date_published),
                [author.name for author in one.authors],
                [(file.url, file.mime_type, *file.size_in_bytes) for file in one.attachments],  # it makes a tuple
            )
            for one in third.items
        ],
    ]
    assert len(seen[0]) > 15
    assert seen[0] == seen[1] == seen[2]
    assert (first.feed.title, second.title.value) == (third.title, third.title)


@pytest.mark.parametrize("url", ["/api/v1/runs.atom", "/api/v1/submissions.atom", "/api/v1/runs.atom?project=absent"])
def test_the_document_has_what_rfc_4287_demands(client: TestClient[Litestar], url: str) -> None:
    root = ElementTree.fromstring(client.get(url).content)
    for element in [root, *root.iter(f"{ATOM}entry")]:
        for name in ("id", "title", "updated"):
            assert len(element.findall(ATOM + name)) == 1, name
        for name in ("updated", "published"):
            for time in element.findall(ATOM + name):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", time.text or "")
        links = [(one.get("rel"), one.get("type")) for one in element.findall(f"{ATOM}link")]
        assert links.count(("alternate", "text/html")) == 1
        assert all(one.get("href", "").startswith(f"{HOST}/") for one in element.findall(f"{ATOM}link"))
        assert element.findall(f"{ATOM}author/{ATOM}name")
    ids = [element.findtext(f"{ATOM}id") for element in root.iter(f"{ATOM}entry")]
    assert len(ids) == len(set(ids))
    assert [one.get("href") for one in root.findall(f"{ATOM}link") if one.get("rel") == "self"] == [HOST + url]


def test_an_entry_tells_counts_commit_environment_labels_and_leads_everywhere(
    client: TestClient[Litestar], sample: Sample
) -> None:
    run = sample.one("SELECT run FROM runs WHERE measurements > 1 ORDER BY seq DESC LIMIT 1")
    [entry] = [one for one in atom(client, "/api/v1/runs.atom").entries if one.id.endswith(run)]
    assert entry.title.startswith("fastlib: 6 measurements of benchmarks at ")
    assert " on Apple M2, 8 cores" in entry.title
    assert entry.link == f"{HOST}/runs/{run}"
    assert client.get(entry.link.removeprefix(HOST)).status_code == 200
    for related in [one["href"] for one in entry.links if one["rel"] == "related"]:
        assert client.get(related.removeprefix(HOST)).headers["content-type"] == "application/json"
    [file] = entry.enclosures
    assert file.href.removeprefix(f"{HOST}/") == keys.blob(file.href.rsplit("/", 1)[1])
    assert ("urn:x-runfeed:label", "trigger=push") in [(tag.scheme, tag.term) for tag in entry.tags]
    assert {tag.scheme.rsplit(":", 1)[1] for tag in entry.tags} == {
        "project",
        "format",
        "branch",
        "environment",
        "label",
    }
    shown = html.fromstring(f"<div>{entry.content[0].value}</div>").text_content()
    for told in ("6 measurements", "Batch writes of the journal", "macOS 15", "trigger=push", "main"):
        assert told in shown
    tested = sample.one("SELECT run FROM runs WHERE title = 'unit tests' ORDER BY seq DESC LIMIT 1")
    [entry] = [one for one in atom(client, "/api/v1/runs.atom").entries if one.id.endswith(tested)]
    assert "260 tests (2 failed) of unit tests" in entry.title


def test_a_run_in_chunks_is_one_entry_with_all_its_files(client: TestClient[Litestar], sample: Sample) -> None:
    entries = atom(client, "/api/v1/runs.atom?project=conformance").entries
    run = sample.one("SELECT run FROM run_chunks WHERE run_group = 'nightly-77' LIMIT 1")
    [entry] = [one for one in entries if one.id.endswith(run)]
    assert len(entry.enclosures) == 3
    assert "3 of 4, partial" in entry.content[0].value
    newest = sample.one("SELECT max(o.finished) FROM runs r JOIN outcomes o USING (seq) WHERE r.run = ?", run)
    assert entry.updated == datetime.fromisoformat(newest).astimezone(UTC).isoformat().replace("+00:00", "Z")


def test_refusals_tell_every_reason_up_to_a_bound(tmp_path: Path) -> None:
    made = sample_dashboard.empty(tmp_path)
    problems = [Problem(where=f"/{n}", expected="a number", found="text") for n in range(PROBLEMS_TOLD + 3)]
    made.submit("p", None, received=START, verdict="rejected", problems=problems)
    made.finish()
    with client_of(made) as client:
        [entry] = atom(client, "/api/v1/submissions.atom?state=rejected").entries
    assert entry.title.startswith("rejected: ")
    assert entry.summary == "/0: expected a number, found text"
    content = html.fromstring(f"<div>{entry.content[0].value}</div>")
    assert len(content.xpath(".//li/code")) == PROBLEMS_TOLD
    assert f"{PROBLEMS_TOLD + 3} problems, the first of them" in content.text_content()
    made.opened.close()


def test_json_feed_is_what_its_specification_says(client: TestClient[Litestar]) -> None:
    """https://www.jsonfeed.org/version/1.1/: names, types, what is required."""
    feed = json_feed(client, "/api/v1/runs.feed.json?project=fastlib&limit=2")
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    assert feed.keys() == {"version", "title", "home_page_url", "feed_url", "next_url", "authors", "items"}
    assert all(isinstance(feed[name], str) for name in ("title", "home_page_url", "feed_url", "next_url"))
    assert feed["authors"] == [{"name": "Runfeed"}]
    for item in feed["items"]:
        assert isinstance(item["id"], str)
        assert item["content_html"]
        for name in ("url", "title", "summary"):
            assert isinstance(item[name], str)
        for name in ("date_published", "date_modified"):
            assert datetime.fromisoformat(item[name]).tzinfo is not None
        assert all(isinstance(tag, str) for tag in item["tags"])
        assert all(one.keys() == {"url", "mime_type", "size_in_bytes"} for one in item["attachments"])
        assert {name for name in item if name.startswith("_")} == {"_runfeed"}
        assert urlsplit(item["url"]).scheme == "http"
    older = json_feed(client, feed["next_url"].removeprefix(HOST))
    assert older["feed_url"] == feed["feed_url"] != feed["next_url"]
    assert older.get("next_url") not in (feed["next_url"], feed["feed_url"])
    assert not {item["id"] for item in feed["items"]} & {item["id"] for item in older["items"]}


# --- filters ---


@pytest.fixture(scope="module")
def some(sample: Sample) -> dict[str, str]:
    """Values of filters that some rows pass and some do not."""
    return {
        "project": "fastlib",
        "commit": sample.one("SELECT commit FROM runs WHERE commit IS NOT NULL ORDER BY seq LIMIT 1")[:8],
        "branch": "main",
        "environment": sample.one("SELECT environment FROM runs WHERE environment_title LIKE 'Apple%' LIMIT 1"),
        "label": "trigger=push",
        "since": "2026-09-03T00:00:00Z",
        "until": "2026-09-05",
        "format": "junit-xml",
        "duplicates": "false",
        "series": sample.one("SELECT series FROM series WHERE benchmark = 'query/throughput' ORDER BY series LIMIT 1"),
        "state": "rejected",
    }


RUN_FILTERS = [
    ("project",),
    ("commit",),
    ("branch",),
    ("environment",),
    ("label",),
    ("since",),
    ("until",),
    ("format",),
    ("duplicates",),
    ("series",),
    ("project", "since", "until", "label"),
]


@pytest.mark.parametrize("names", RUN_FILTERS, ids="+".join)
def test_every_filter_of_the_runs_list_is_a_feed_and_a_page_of_the_same_rows(
    client: TestClient[Litestar], some: dict[str, str], names: tuple[str, ...]
) -> None:
    query = {name: some[name] for name in names}
    expected = [run["run"] for run in client.get("/api/v1/runs", params=query).json()["items"]]
    everything = client.get("/api/v1/runs").json()["items"]
    assert 0 < len(expected) <= len(everything)
    assert len(expected) < len(everything) or names == ("branch",), "the filter narrows"
    feed = feedparser.parse(client.get("/api/v1/runs.atom", params=query).content)
    assert run_ids(feed) == expected
    other = client.get("/api/v1/runs.feed.json", params=query).json()
    assert [item["id"] for item in other["items"]] == [entry["id"] for entry in feed.entries]
    for address in (link(feed.feed, "self"), link(feed.feed, "first"), other["feed_url"]):
        assert address is not None
        assert run_ids(feedparser.parse(client.get(address.removeprefix(HOST)).content)) in (expected, [])
        assert {name for name, _ in parse_qsl(urlsplit(address).query)} == set(names)
    page = html.document_fromstring(client.get(feed.feed.link.removeprefix(HOST)).text)
    assert [href.removeprefix("/runs/") for href in page.xpath("//tbody//th/a/@href")] == expected


@pytest.mark.parametrize(
    "names",
    [("project",), ("state",), ("format",), ("label",), ("project", "state")],
    ids="+".join,
)
def test_every_filter_of_the_submissions_list_is_one_too(
    client: TestClient[Litestar], some: dict[str, str], names: tuple[str, ...]
) -> None:
    query = {name: some[name] for name in names}
    expected = [row["id"] for row in client.get("/api/v1/submissions", params=query).json()["items"]]
    assert 0 < len(expected) < len(client.get("/api/v1/submissions").json()["items"])
    feed = feedparser.parse(client.get("/api/v1/submissions.atom", params=query).content)
    assert [entry["id"].rsplit(":", 1)[1] for entry in feed.entries] == expected
    page = html.document_fromstring(client.get(feed.feed.link.removeprefix(HOST)).text)
    assert [href.removeprefix("/submissions/") for href in page.xpath("//tbody//th/a/@href")] == expected


def test_several_states_and_labels_may_be_asked_for(client: TestClient[Litestar]) -> None:
    feed = atom(client, "/api/v1/submissions.atom?state=rejected&state=quarantined")
    assert [entry.title.partition(":")[0] for entry in feed.entries] == ["quarantined", "rejected"]
    assert client.get(feed.feed.link.removeprefix(HOST)).text.count('scope="row"') == 2
    labels = "label=trigger%3Dpush&label=ci%3Dhttps://ci.example/jobs/77"
    feed = atom(client, f"/api/v1/runs.atom?{labels}")
    assert len(feed.entries) > 5
    assert client.get(feed.feed.link.removeprefix(HOST)).text.count('scope="row"') == len(feed.entries)


def test_a_feed_keeps_its_id_and_differs_from_every_other(client: TestClient[Litestar], sample: Sample) -> None:
    urls = ["/api/v1/runs", "/api/v1/runs?project=fastlib", "/api/v1/runs?branch=fastlib", "/api/v1/submissions"]
    addresses = [path.replace("?", ".atom?") if "?" in path else f"{path}.atom" for path in urls]
    ids = [atom(client, address).feed.id for address in addresses]
    assert len(set(ids)) == len(ids)
    assert feed_id(keys.SUBMISSIONS_LOG, "") not in ids, "that is the stored log's"
    with client_of(sample, "https://results.example/") as elsewhere:
        assert [atom(elsewhere, address).feed.id for address in addresses] == ids
    paged = atom(client, "/api/v1/runs.atom?limit=2")
    assert atom(client, (link(paged.feed, "next") or "").removeprefix(HOST)).feed.id == paged.feed.id


@pytest.mark.parametrize("query", ["project=x&brnach=main", "limit=0", "before=nothing", "commit=ab", "label=x"])
def test_what_is_wrong_with_a_list_is_wrong_with_its_feed(client: TestClient[Litestar], query: str) -> None:
    for suffix in ("atom", "feed.json"):
        answer = client.get(f"/api/v1/runs.{suffix}?{query}")
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_lists_that_nobody_waits_for_are_no_feeds(client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/projects.atom").status_code == 404
    assert client.get("/api/v1/series", headers={"Accept": "application/atom+xml"}).status_code == 406


# --- paging ---


@pytest.mark.parametrize("kind", ["runs", "submissions"])
@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_pages_lead_through_every_row_once(client: TestClient[Litestar], kind: str, limit: int) -> None:
    def walked(suffix: str) -> list[str]:
        url: str | None = f"/api/v1/{kind}.{suffix}?limit={limit}"
        ids: list[str] = []
        first = HOST + str(url)
        while url:
            answer = client.get(url)
            if suffix == "atom":
                feed = feedparser.parse(answer.content)
                ids += [entry.id for entry in feed.entries]
                following = link(feed.feed, "next")
                assert link(feed.feed, "first") == first
                assert link(feed.feed, "self") == HOST + url
            else:
                ids += [item["id"] for item in answer.json()["items"]]
                following = answer.json().get("next_url")
            assert answer.links["first"]["url"] == first
            assert answer.links.get("next", {}).get("url") == following
            url = following and following.removeprefix(HOST)
        return ids

    rows = client.get(f"/api/v1/{kind}?limit=1000").json()["items"]
    expected = [row["run" if kind == "runs" else "id"] for row in rows]
    for suffix in ("atom", "feed.json"):
        assert [id.rsplit(":", 1)[1] for id in walked(suffix)] == expected


def test_rows_that_arrive_meanwhile_neither_hide_nor_repeat_any(tmp_path: Path) -> None:
    made = sample_dashboard.filled(tmp_path, commits=2)
    with client_of(made) as client:
        before = [row["id"] for row in client.get("/api/v1/submissions").json()["items"]]
        url, ids = "/api/v1/submissions.atom?limit=3", []
        while url:
            feed = atom(client, url)
            ids += [entry.id.rsplit(":", 1)[1] for entry in feed.entries]
            url = (link(feed.feed, "next") or "").removeprefix(HOST)
            made.submit("later", None, received=START)
            made.finish()
    assert ids == before
    made.opened.close()


# --- representations, versions, codings ---


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/atom+xml", "application/atom+xml"),
        ("application/feed+json, application/json;q=0.5", "application/feed+json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("application/atom+xml;q=0.4, text/csv", "text/csv"),
    ],
    ids=["atom", "json-feed", "browser", "csv"],
)
def test_the_accept_header_chooses_among_all(client: TestClient[Litestar], accept: str, media_type: str) -> None:
    answer = client.get("/api/v1/runs", headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert "Accept" in answer.headers["vary"]
    if "atom" in media_type:
        assert answer.content == client.get("/api/v1/runs.atom").content


@pytest.mark.parametrize("suffix", ["atom", "feed.json"])
def test_each_coding_is_its_own_representation_with_its_own_etag(client: TestClient[Litestar], suffix: str) -> None:
    url = f"/api/v1/runs.{suffix}"
    tags: dict[str, str] = {}
    plain = client.get(url, headers={"Accept-Encoding": "identity"}).content
    for coding, unpack in (
        ("identity", bytes),
        ("gzip", gzip.decompress),
        ("zstd", lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)),
    ):
        with client.stream("GET", url, headers={"Accept-Encoding": coding}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding", "identity") == coding
        assert unpack(body) == plain
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert re.fullmatch(r"public, max-age=\d{1,3}", answer.headers["cache-control"])
        assert not answer.headers["etag"].startswith("W/")
        tags[coding] = answer.headers["etag"]
    assert len(set(tags.values())) == 3
    for asked, known in [(asked, known) for asked in tags for known in tags]:
        answer = client.get(url, headers={"Accept-Encoding": asked, "If-None-Match": tags[known]})
        assert answer.status_code == (304 if asked == known else 200), (asked, known)
        assert answer.headers["etag"] == tags[asked]
        assert answer.headers["vary"] == "Accept, Accept-Encoding"


def test_a_known_version_costs_no_query_and_a_new_one_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sample_dashboard.filled(tmp_path, commits=3)
    with client_of(made) as client:
        known = {"If-None-Match": client.get("/api/v1/runs.atom").headers["etag"]}
    with client_of(made) as client:  # with an empty cache
        with monkeypatch.context() as patched:
            patched.setattr("dashboard_api.queries.list_runs", lambda *_: pytest.fail("asked the database"))
            answer = client.get("/api/v1/runs.atom", headers=known)
            assert (answer.status_code, answer.content) == (304, b"")
        made.submit("fastlib", None, received=START, verdict="rejected")
        made.finish()
        assert client.get("/api/v1/runs.atom", headers=known).status_code == 200
    made.opened.close()


# --- addresses ---


def test_addresses_are_the_public_ones_or_those_of_the_request_and_never_what_a_header_claims(
    client: TestClient[Litestar], sample: Sample
) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher", "Forwarded": "host=evil.example"}
    assert b"evil.example" not in client.get("/api/v1/runs.atom?limit=7", headers=forged).content
    other = client.get("/api/v1/runs.atom?limit=7", headers={"Host": "results.example:8080"})
    assert b'href="http://results.example:8080/api/v1/runs.atom?limit=7"' in other.content
    assert HOST.encode() not in other.content
    for host in ("a b", 'x"><script>', "evil.example/path", "user@evil.example", "x" * 300):
        refused = client.get("/api/v1/runs.atom?limit=7", headers={"Host": host})
        assert refused.status_code == 400, host
    with client_of(sample, "https://results.example/") as fixed:
        body = fixed.get("/api/v1/runs.atom", headers={"Host": "evil.example"}).content
    assert b"evil.example" not in body
    assert b'href="https://results.example/api/v1/runs.atom"' in body


# --- what strangers wrote ---


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Sample]:
    made = sample_dashboard.empty(tmp_path)
    commit = Commit(id="feed" + HOSTILE.replace("\0", ""), time=START, subject=HOSTILE, branch=HOSTILE)
    context = Context(commit=commit, environment=HOSTILE, labels={HOSTILE: HOSTILE})

    def fill(tables: Tables) -> None:
        facts = RunFacts(title=HOSTILE, commit=commit)
        tables.run(facts).measurement(where="", benchmark="b", metric="t", unit="s", better="lower", value=1.0)
        tables.leave_unread(HOSTILE, 2)

    problem = Problem(where=HOSTILE, expected=HOSTILE, found=HOSTILE * 100)
    made.submit("victim", fill, received=START, context=context, problems=[problem], format=HOSTILE)
    made.opened.writer.execute("UPDATE submissions SET media_type = ?, title = ?", [HOSTILE, HOSTILE])
    made.finish()
    yield made
    made.opened.close()


@pytest.mark.parametrize("kind", ["runs", "submissions"])
def test_texts_of_strangers_are_carried_and_never_act(hostile: Sample, kind: str) -> None:
    with client_of(hostile) as client:
        document = client.get(f"/api/v1/{kind}.atom").content
        other = json_feed(client, f"/api/v1/{kind}.feed.json")
        page = client.get(f"/{kind}?format=%3Cscript%3E&label=%22%3E%3Cimg%3D1").text
    assert "<script>" not in page
    root = etree.fromstring(document)
    elements = {etree.QName(element).localname for element in root.iter(etree.Element)}
    assert elements == {
        *("feed", "id", "title", "updated", "author", "name", "generator", "link", "entry", "published", "category"),
        *("summary", "content"),
    }
    [entry] = root.findall(f"{ATOM}entry")
    [item] = other["items"]
    assert " ".join(legal(HOSTILE).split()) in entry.findtext(f"{ATOM}title")
    assert legal(HOSTILE) in [one.get("term") for one in entry.findall(f"{ATOM}category")]
    assert entry.findtext(f"{ATOM}title") == item["title"]
    assert entry.findtext(f"{ATOM}content") == item["content_html"]
    fragment = html.fromstring(f"<div>{item['content_html']}</div>")
    assert {element.tag for element in fragment.iter()} <= {"div", "p", "a", "ul", "li", "bdi", "time", "code"}
    assert all(href.startswith(f"{HOST}/") for href in fragment.xpath(".//@href"))
    assert "alert('x')" in fragment.text_content()
    assert "\0" not in json.dumps(other, ensure_ascii=False)
    assert len(item["content_html"]) < 20_000
    assert not feedparser.parse(document).bozo


# --- autodiscovery ---


def alternates(page: html.HtmlElement, type: str) -> list[str]:
    return [str(href) for href in page.xpath(f"//head/link[@rel='alternate'][@type='{type}']/@href")]


def test_every_page_leads_to_the_feeds_of_its_rows_and_to_the_stored_logs(
    client: TestClient[Litestar], sample: Sample
) -> None:
    for url in [*some_pages(sample), "/runs?project=fastlib&branch=main", "/submissions?state=rejected"]:
        page = html.document_fromstring(client.get(url).text)
        found = alternates(page, "application/atom+xml")
        assert found[-2:] == LOGS, url
        feeds, others = found[:-2], alternates(page, "application/feed+json")
        assert len(feeds) == len(others) == (0 if url == "/quality" else 2 if url == "/" or "projects" in url else 1)
        visible = [str(href) for href in page.xpath("//footer//a/@href")]
        assert [href for href in visible if "/api/v1/" in href and (".atom" in href or ".feed.json" in href)] == [
            address for pair in zip(feeds, others, strict=True) for address in pair
        ]
        for address, other in zip(feeds, others, strict=True):
            feed = atom(client, address)
            assert [item["id"] for item in json_feed(client, other)["items"]] == [one.id for one in feed.entries]
        links = {entry.link.removeprefix(HOST) for feed in feeds for entry in atom(client, feed).entries}
        rows = page.xpath("//tbody//th[@scope='row']//a/@href")
        kinds = ("/submissions/",) if url.startswith("/submissions") else ("/runs/", "/submissions/")
        shown = {str(href) for href in rows if href.startswith(kinds) and "?" not in href}
        if url in ("/", "/runs", "/submissions") or "?" in url or "/series/" in url:
            assert shown, url
            assert shown <= links, url


def test_the_feed_of_a_filtered_page_has_exactly_its_rows(client: TestClient[Litestar]) -> None:
    for url in ("/runs?project=fastlib&branch=main", "/runs?duplicates=false", "/submissions?project=small-tool"):
        page = html.document_fromstring(client.get(url).text)
        [feed, *_] = alternates(page, "application/atom+xml")
        rows = [str(href) for href in page.xpath("//tbody//th/a/@href")]
        assert [entry.link.removeprefix(HOST) for entry in atom(client, feed).entries] == rows


def test_the_tabs_count_what_the_page_can_show(client: TestClient[Litestar]) -> None:
    page = html.document_fromstring(client.get("/submissions?label=trigger%3Dpush").text)
    counts = [tab.text_content() for tab in page.xpath("//ul[@class='tabs']//a")]
    shown = len(page.xpath("//tbody/tr"))
    assert counts[0] == f"all {shown}"
    assert f"accepted {shown}" in counts
    assert "rejected 0" in counts


# --- along a submission's way ---


def test_an_entry_is_updated_when_its_state_changes_and_keeps_the_stored_logs_id(chain: Chain) -> None:
    with chain.dashboard() as dashboard, client_of(dashboard) as client:

        def entry() -> Any:
            load(dashboard)
            [found] = [one for one in atom(client, "/api/v1/submissions.atom").entries if one.id.endswith(id)]
            return found

        id = chain.push(measured(1), Context(commit=Commit(id="ab" * 20), environment="lab"))
        chain.pass_time(seconds=1)
        batch = chain.announce()
        stored = feedparser.parse(chain.public.read(keys.feed_head(keys.SUBMISSIONS_LOG)))
        seen = [entry()]
        assert seen[0].id == stored.entries[0].id, "a reader of both shows it once"
        assert seen[0].title == "announced: " + stored.entries[0].title
        chain.pass_time(minutes=1)
        chain.process(batch)
        chain.announce_outcomes()
        seen.append(entry())
        chain.pass_time(minutes=1)
        withdraw(chain, 1)
        seen.append(entry())
        chain.pass_time(minutes=1)
        revise_without(chain, 1, 1)
        seen.append(entry())
        assert [one.title.partition(":")[0] for one in seen] == ["announced", "accepted", "withdrawn", "withdrawn"]
        assert len({one.updated for one in seen}) == 4
        assert sorted(one.updated for one in seen) == [one.updated for one in seen]
        assert len({one.published for one in seen}) == len({one.id for one in seen}) == 1


def test_a_withdrawn_submission_tells_why_and_offers_no_file(chain: Chain) -> None:
    chain.done(measured(1, "secret"), measured(2))
    sha256 = withdraw(chain, 1)
    with chain.dashboard() as dashboard, client_of(dashboard) as client:
        load(dashboard)
        [entry] = atom(client, "/api/v1/submissions.atom?state=withdrawn").entries
        assert entry.title.startswith("withdrawn: p: submission ")
        assert html.fromstring(f"<p>{entry.summary}</p>").text_content() == "a token leaked", "escaped"
        assert entry.enclosures == []
        assert f"{HOST}/{keys.withdrawal(sha256)}" in entry.content[0].value
        assert "/blobs/" not in entry.content[0].value
        assert REASON not in entry.content[0].value, "its markup is text"
        assert "secret" not in client.get("/api/v1/submissions.atom").text
        assert len(atom(client, "/api/v1/runs.atom").entries) == 1


def test_people_are_named_in_rendered_feeds_and_in_no_stored_page(chain: Chain) -> None:
    body = measured(1)
    for n, trust in enumerate([Trust(kind="token", name="Ada & Bob"), Trust(kind="anonymous"), Trust(kind="local")]):
        content = body + b"\n" * n
        blob = Blob(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        admit(chain.buckets, content, blob, project="p", format="auto", context=Context(), trust=trust, now=chain.now)
    chain.process(chain.announce())
    chain.announce_outcomes()
    with chain.dashboard() as dashboard, client_of(dashboard) as client:
        load(dashboard)
        for kind in ("runs", "submissions"):
            entries = atom(client, f"/api/v1/{kind}.atom").entries
            named = sorted([author["name"] for author in entry.authors] for entry in entries)
            assert named == [["p"], ["p"], ["p", "Ada & Bob"]]
    for log in (keys.SUBMISSIONS_LOG, keys.outcomes_log(1)):
        assert b"Ada" not in chain.public.read(keys.feed_head(log))


def test_a_new_run_is_on_top_at_the_next_look(chain: Chain) -> None:
    with chain.dashboard() as dashboard, client_of(dashboard) as client:
        for n in range(3):
            chain.pass_time(minutes=1)
            chain.done(measured(n))
            load(dashboard)
            feed = atom(client, "/api/v1/runs.atom")
            assert len(feed.entries) == n + 1
            assert feed.feed.updated == feed.entries[0].updated
            newest = datetime.fromisoformat(feed.entries[0].published)
            assert abs(newest - chain.now) < timedelta(seconds=1)


def test_an_empty_feed_is_a_feed(tmp_path: Path) -> None:
    made = sample_dashboard.empty(tmp_path)
    with client_of(made) as client:
        assert atom(client, "/api/v1/runs.atom").entries == []
        assert msgspec.json.decode(client.get("/api/v1/submissions.feed.json").content)["items"] == []
    made.opened.close()
