"""The doctor finds nothing in a healthy bucket and names every breach that is made in a copy of it."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from feed.announceable import describe_outcome, describe_submission, write_marker
from feed.announcer import Announcer
from infra.bucket import Buckets
from infra.s3 import open_s3
from ingest.benchmarks import add_benchmark, make_benchmark
from ingest.projects import add_project
from ingest.tokens import create_token
from processor.compaction import compact
from processor.dispatcher import write_checkpoint
from processor.doctor import Breach, breaches
from processor.doctor_cli import doctor
from processor.doctor_rules import RULES
from processor.lake import publish_outcome
from processor.part import parquet_bytes
from processor.rebuild import Rebuild
from schemas import keys
from schemas.records import Context, Grant, Metric, Trust
from schemas.tables import TABLES
from tests.chain import Chain, measured, passed
from tests.servers import S3Server
from tests.withdrawing import purged, withdrawn

Break = Callable[[Chain], Any]
TOKEN = "token.txt"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a bit of everything: pages of both logs, a revision, a rebuilt version, token, benchmark."""
    chain = Chain(tmp_path_factory.mktemp("doctor") / "data")
    add_project(chain.buckets, "p", chain.now)
    token, _ = create_token(chain.buckets.private, name="ci", projects=["p"], expires=None, now=chain.now)
    (chain.data / TOKEN).write_text(token)
    metric = Metric(path="/value", metric="time")
    add_benchmark(chain.buckets.public, "p", make_benchmark("own", b"{}", metrics=[metric], now=chain.now))
    history = (Path(__file__).parent / "formats/github-action-benchmark/history.js").read_bytes()
    batches = [(measured(1), passed("t"), b"nonsense"), (history,), *((measured(at),) for at in range(2, 8))]
    for bodies in batches:
        for body in bodies:
            chain.push(body)
        announce_and_process(chain)
    chain.push(b'{"value": 1}', format="benchmark:own")
    announce_and_process(chain)
    publish_outcome(chain.buckets, 1, msgspec.structs.replace(chain.outcome(4), revision=1, nonce=nonce(chain)))
    announce(chain, keys.outcomes_log(1))
    compact(chain.buckets.public, chain.reader_of(keys.outcomes_log(1)), 1)
    Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock).replay(lambda *_: None)
    write_checkpoint(chain.buckets.private, 1, 11)
    return chain.data


@pytest.fixture
def chain(healthy: Path, tmp_path: Path) -> Chain:
    """A copy of the healthy data folder."""
    shutil.copytree(healthy, tmp_path / "data")
    return Chain(tmp_path / "data")


def announce(chain: Chain, log: str) -> None:
    describe = describe_submission if log == keys.SUBMISSIONS_LOG else describe_outcome
    announcer = Announcer(chain.buckets, chain.reader_of(log), describe, clock=chain.clock, head_keep=1, threads=1)
    while announcer.commit():
        pass


def announce_and_process(chain: Chain) -> None:
    announce(chain, keys.SUBMISSIONS_LOG)
    newest = chain.submissions.head().entries[-1]
    assert chain.process((newest.batch, newest.seq))
    announce(chain, keys.outcomes_log(1))


def nonce(chain: Chain) -> str:
    return keys.new_nonce(chain.now)


def found(chain: Chain, *, deep: bool = False, settled: bool = False) -> dict[str, list[Breach]]:
    by_rule: dict[str, list[Breach]] = {}
    for breach in breaches(chain.buckets, chain.now, deep=deep, settled=settled, threads=2):
        by_rule.setdefault(breach.rule, []).append(breach)
    return by_rule


# --- ways to break a bucket ---


def path_of(chain: Chain, key: str) -> Path:
    return chain.data / "public" / key


def write(chain: Chain, key: str, body: bytes) -> None:
    path = path_of(chain, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def remove(key_of: Callable[[Chain], str]) -> Break:
    return lambda chain: path_of(chain, key_of(chain)).unlink()


def change(key_of: Callable[[Chain], str], **values: Any) -> Break:
    """Of a JSON record."""

    def of(chain: Chain) -> None:
        path = path_of(chain, key_of(chain))
        path.write_text(json.dumps(json.loads(path.read_bytes()) | values))

    return of


def change_verdict(**values: Any) -> Break:
    """Of the first submission of batch 5."""

    def of(chain: Chain) -> None:
        path = path_of(chain, outcome(5)(chain))
        record = json.loads(path.read_bytes())
        record["submissions"][0] |= values
        path.write_text(json.dumps(record))

    return of


def change_part(**values: Any) -> Break:
    """As the outcome of batch 5 names it."""

    def of(chain: Chain) -> None:
        path = path_of(chain, outcome(5)(chain))
        record = json.loads(path.read_bytes())
        record["parts"][0] |= values
        path.write_text(json.dumps(record))

    return of


def change_head(log: str, old: str, new: str) -> Break:
    def of(chain: Chain) -> None:
        path = path_of(chain, keys.feed_head(log))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return of


def submission(seq: int) -> Callable[[Chain], str]:
    return lambda chain: keys.submission(chain.submissions.entries(seq, seq)[0].id)


def blob(seq: int) -> Callable[[Chain], str]:
    return lambda chain: chain.submissions.entries(seq, seq)[0].key


def outcome(first: int, revision: int = 0) -> Callable[[Chain], str]:
    return lambda chain: keys.outcome(1, first, revision)


def part(chain: Chain) -> str:
    """Of batch 5."""
    return chain.outcome(5).parts[0].key


def newest_page(chain: Chain) -> str:
    return chain.submissions.head().previous


def first_page(chain: Chain) -> str:
    return next(key for key in chain.public.list("feeds/submissions/0") if keys.parse_page(key))


def head(log: str) -> Callable[[Chain], str]:
    return lambda chain: keys.feed_head(log)


def add_page_of_another_past(chain: Chain) -> None:
    key = first_page(chain)
    body = path_of(chain, key).read_bytes().replace(b"p: result", b"p: another")
    named = keys.parse_page(key)
    assert named
    digest16 = hashlib.sha256(body).hexdigest()[:16]
    write(chain, keys.Page(named.log, named.first, named.last, digest16).key, body)


def forget_the_receipt(chain: Chain) -> None:
    chain.push(measured(99))
    for key in list(chain.buckets.private.list("pending/")):
        chain.buckets.private.delete(key)


def process_without_marker(chain: Chain) -> None:
    last = chain.outcome(11)
    publish_outcome(chain.buckets, 1, msgspec.structs.replace(last, revision=1, nonce=nonce(chain)))
    for key in list(chain.buckets.private.list("pending/")):
        chain.buckets.private.delete(key)


def publish_overlapping(chain: Chain) -> None:
    both = [*chain.outcome(5).submissions, *chain.outcome(6).submissions]
    wide = msgspec.structs.replace(
        chain.outcome(5), last=6, through=6, revision=1, nonce=nonce(chain), submissions=both, parts=[]
    )
    publish_outcome(chain.buckets, 1, wide)


def name_part_twice(chain: Chain) -> None:
    path = path_of(chain, outcome(5)(chain))
    record = json.loads(path.read_bytes())
    record["parts"].append(record["parts"][0])
    path.write_text(json.dumps(record))


def announce_again(chain: Chain) -> None:
    """The newest entry stands in the head once more, with the next seq."""
    path = path_of(chain, keys.feed_head("submissions"))
    text = path.read_text()
    start, end = text.index("<entry>"), text.index("</entry>") + len("</entry>")
    entry = text[start:end]
    seq = chain.submissions.last_seq()
    again = entry.replace(f"<rf:seq>{seq}<", f"<rf:seq>{seq + 1}<")
    path.write_text(text[:start] + again + text[start:])


def move_rows_to_another_submission(chain: Chain) -> None:
    """Rows, counts and digests all fit; only the seq of the rows is another's."""
    first = chain.outcome(1)
    measurements = next(one for one in first.parts if one.table == "measurements")
    table = pq.read_table(path_of(chain, measurements.key))
    moved = table.set_column(0, "seq", [[2] * len(table)])
    path = chain.data / "moved.parquet"
    pq.write_table(moved, path)
    body = path.read_bytes()
    sha256 = hashlib.sha256(body).hexdigest()
    key = keys.part(1, "measurements", 1, 3, sha256[:16])
    write(chain, key, body)
    new = msgspec.structs.replace(measurements, key=key, sha256=sha256, size_bytes=len(body))
    parts = [new if one is measurements else one for one in first.parts]
    write(chain, outcome(1)(chain), msgspec.json.encode(msgspec.structs.replace(first, parts=parts)))


def change_catalog(**values: Any) -> Break:
    """Of the file of measurements that the catalog names first."""

    def of(chain: Chain) -> None:
        path = path_of(chain, CATALOG)
        record = json.loads(path.read_bytes())
        record["tables"]["measurements"][0] |= values
        path.write_text(json.dumps(record))

    return of


def merged_file(chain: Chain) -> str:
    return next(key for key in chain.public.list("lake/v1/catalog/measurements/"))


def hold_a_batch_twice(chain: Chain) -> None:
    """A catalog in which one batch stands in for another: the number of rows fits."""
    path = path_of(chain, CATALOG)
    record = json.loads(path.read_bytes())
    parts = {first: chain.outcome(first).parts for first in (5, 6)}
    five, six = (next(one for one in parts[first] if one.table == "measurements") for first in (5, 6))
    files = [
        {"key": one.key, "sha256": one.sha256, "size_bytes": one.size_bytes, "rows": 1, "first": first, "last": first}
        for first, one in ((5, five), (5, five))
    ]
    assert six.rows == 1
    total = sum(file["rows"] for file in record["tables"]["measurements"])
    others = [
        next(one for one in chain.outcome(first).parts if one.table == "measurements") for first in (1, 7, 8, 9, 10, 11)
    ]
    files += [
        {"key": one.key, "sha256": one.sha256, "size_bytes": one.size_bytes, "rows": one.rows, "first": 1, "last": 11}
        for one in [*others, next(one for one in chain.outcome(4).parts if one.table == "measurements")]
    ]
    assert sum(file["rows"] for file in files) == total
    record["tables"]["measurements"] = files
    path.write_text(json.dumps(record))


def leak_the_token(chain: Chain) -> None:
    chain.push(b"a log with " + (chain.data / TOKEN).read_bytes() + b" in it")


def leave_a_marker(chain: Chain) -> None:
    write_marker(chain.buckets.private, keys.Marker("submissions", "p", nonce(chain), "ab" * 32))
    chain.pass_time(days=9)


WITHDRAWN = 9


def without(break_it: Break) -> Break:
    """What breaks it once entry 9 is withdrawn."""

    def of(chain: Chain) -> None:
        withdrawn(chain, chain.submissions.entries(WITHDRAWN, WITHDRAWN)[0].id)
        purged(chain)
        break_it(chain)

    return of


def put_back(chain: Chain) -> None:
    """The purge forgot the blob."""
    write(chain, blob(WITHDRAWN)(chain), b"the blob")


def keep_in_private(chain: Chain) -> None:
    sha256 = blob(WITHDRAWN)(chain).rpartition("/")[2]
    chain.buckets.private.create(keys.swept_blob(sha256), b"the blob")


def keep_the_submission(chain: Chain) -> None:
    write(chain, submission(WITHDRAWN)(chain), b"{}")


def keep_an_upload(chain: Chain) -> None:
    entry = chain.submissions.entries(WITHDRAWN, WITHDRAWN)[0]
    context, trust = Context(), Trust()
    grant = Grant(
        id=OTHER, project="p", format="auto", media_type="", context=context, trust=trust, sha256=entry.sha256,
        size_bytes=1, part_bytes=1, created=chain.now,
    )  # fmt: skip
    chain.buckets.private.create(keys.upload_grant(OTHER), msgspec.json.encode(grant))


def change_withdrawn_verdict(**values: Any) -> Break:
    return change(outcome(WITHDRAWN, 1), submissions=[{"seq": WITHDRAWN, "id": "", "verdict": "withdrawn"} | values])


def keep_rows(chain: Chain) -> None:
    """A part with such rows that no outcome names."""
    rows = pa.Table.from_pylist([{"seq": WITHDRAWN}], TABLES["tests"])
    body = parquet_bytes("tests", rows.to_batches())
    write(chain, keys.part(1, "tests", WITHDRAWN, WITHDRAWN, "ab" * 8), body)


def keep_an_outcome(chain: Chain) -> None:
    write(chain, outcome(WITHDRAWN)(chain), path_of(chain, outcome(WITHDRAWN, 1)(chain)).read_bytes())


def keep_a_catalog(chain: Chain) -> None:
    write(chain, keys.catalog(1, 1), b'{"version": 1, "generation": 1, "through": 9, "tables": {}}')


def keep_a_snapshot(chain: Chain) -> None:
    write(chain, keys.snapshot(1, "3.2", 9, 9, OTHER), b"a database")


def withdraw_unannounced(chain: Chain) -> None:
    withdrawn(chain, chain.submissions.entries(8, 8)[0].id)
    for key in [*chain.buckets.private.list("pending/"), *chain.buckets.private.list("withdrawing/")]:
        chain.buckets.private.delete(key)


def withdraw_and_wait(chain: Chain) -> None:
    withdrawn(chain, chain.submissions.entries(8, 8)[0].id)
    chain.pass_time(days=2)


def withdrawal(chain: Chain) -> str:
    return next(chain.public.list("withdrawals/"))


OTHER = "ab" * 32
CATALOG = keys.catalog(1, 1)

BREAKS: dict[str, list[Break]] = {
    "an object is what its key says": [
        lambda chain: write(chain, submission(1)(chain), b"{"),
        lambda chain: write(chain, first_page(chain), path_of(chain, first_page(chain)).read_bytes() + b"\n"),
        lambda chain: write(chain, keys.feed_head("submissions"), b"<feed/>"),
        lambda chain: chain.buckets.private.create("pending/submissions/p/x", b""),
        change_head("submissions", "<rf:seq>11<", "<rf:seq>12<"),
    ],
    "the public bucket holds only what is public": [
        lambda chain: write(chain, "tokens/" + OTHER + ".json", b"{}"),
        lambda chain: write(chain, "blobs/ab/" + OTHER + ".json", b"{}"),
    ],
    "no token is in the public bucket": [leak_the_token],
    "a submission's id covers its content": [change(submission(1), project="q"), change(submission(1), id=OTHER)],
    "a submission's blob is there": [remove(blob(1)), lambda chain: write(chain, blob(1)(chain), b"shorter")],
    "a submission's benchmark is there": [remove(lambda chain: keys.benchmark("p", "own", 1))],
    "a submission is announced, or waits with its marker": [forget_the_receipt],
    "an object is announced once": [announce_again],
    "a log's pages lead back to entry 1": [remove(newest_page), remove(first_page)],
    "a log has a head": [remove(head("submissions"))],
    "a log's past does not change": [add_page_of_another_past],
    "a batch begins with the entry that it is named after": [
        change_head("submissions", "<rf:batch>11<", "<rf:batch>9<")
    ],
    "an entry says what its submission does": [
        remove(submission(11)),
        change_head("submissions", 'length="12"', 'length="13"'),
    ],
    "no marker is older than a week and a day": [leave_a_marker],
    "an outcome is of the batch that its key says": [change(outcome(5), revision=1), change(outcome(5), first=4)],
    "an outcome has a verdict for each of its batch": [
        change(outcome(1), last=4),
        change(outcome(5), submissions=[]),
        change_verdict(seq=6),
    ],
    "a verdict is of the submission that the log has there": [change_verdict(id=OTHER)],
    "a submission has one outcome in a lake version": [publish_overlapping],
    "each submission ends": [
        lambda chain: (remove(outcome(11))(chain), chain.pass_time(days=2)),
        lambda chain: (chain.push_batch(measured(50)), chain.pass_time(days=2)),
    ],
    "revisions follow each other over the same range": [remove(outcome(4)), publish_overlapping],
    "an outcome knows no more than the log": [change(outcome(5), through=12), change(outcome(5), through=4)],
    "an outcome is announced, or waits with its marker": [process_without_marker],
    "an entry says what its outcome does": [change(outcome(5), transform_version=99), remove(outcome(4, 1))],
    "a checkpoint promises no more than is done": [
        lambda chain: (chain.push_batch(measured(50)), write_checkpoint(chain.buckets.private, 1, 12))
    ],
    "the lake version that serves is there": [lambda chain: write(chain, keys.CURRENT_LAKE, b'{"version": 7}')],
    "a part is there, as its outcome says": [remove(part), change_part(size_bytes=1)],
    "a part's name tells its version, table, range and digest": [change_part(sha256=OTHER), change_part(table="tests")],
    "an outcome names a part once": [name_part_twice],
    "an outcome counts the rows of its parts": [change_verdict(measurements=2), change_part(rows=2)],
    "a catalog is of the generation that its key says, and the next holds no less": [
        change(lambda _: CATALOG, generation=2),
        lambda chain: write(chain, keys.catalog(1, 2), b'{"version": 1, "generation": 2, "through": 1, "tables": {}}'),
    ],
    "current.json names a catalog that is there": [remove(lambda _: CATALOG)],
    "a catalog holds no more outcomes than the log": [change(lambda _: CATALOG, through=99)],
    "a file is there, as the newest catalog says": [remove(merged_file), change_catalog(sha256=OTHER)],
    "the newest catalog counts the rows of the outcomes that it holds": [
        change(lambda _: CATALOG, through=3),
        change_catalog(rows=1),
    ],
    "each row is in one file of the newest catalog": [hold_a_batch_twice],
    "a part holds the rows of its accepted submissions": [move_rows_to_another_submission],
    "a withdrawal is announced, or waits with its marker": [withdraw_unannounced],
    "an entry says what its withdrawal does": [
        without(remove(withdrawal)),
        without(change(withdrawal, reason="another")),
    ],
    "a withdrawal is carried out": [withdraw_and_wait],
    "a withdrawn blob is gone, with its submissions": [
        without(put_back),
        without(keep_in_private),
        without(keep_the_submission),
        without(keep_an_upload),
    ],
    "a submission is withdrawn in every lake version, if its blob is, and has no rows": [
        without(change_withdrawn_verdict(verdict="accepted")),
        without(change_withdrawn_verdict(runs=1)),
        without(keep_rows),
        change_verdict(verdict="withdrawn"),
    ],
    "outcomes from before a withdrawal are gone": [without(keep_an_outcome)],
    "a catalog holds nothing that is withdrawn": [without(keep_a_catalog)],
    "a snapshot holds nothing that is withdrawn": [without(keep_a_snapshot)],
}
"""Per rule, what breaks it."""

DEEP = {
    "no token is in the public bucket",
    "a part holds the rows of its accepted submissions",
    "each row is in one file of the newest catalog",
}
"""Rules that only a look at every byte can check."""


def test_a_healthy_bucket_has_no_breach(chain: Chain) -> None:
    assert found(chain, deep=True, settled=True) == {}


def test_an_empty_bucket_has_no_breach(tmp_path: Path) -> None:
    assert found(Chain(tmp_path / "data"), deep=True, settled=True) == {}


def test_every_rule_has_something_that_breaks_it() -> None:
    assert set(BREAKS) == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [(rule, one) for rule, breaks in BREAKS.items() for one in breaks],
    ids=[f"{rule[:60]}-{number}" for rule, breaks in BREAKS.items() for number in range(len(breaks))],
)
def test_each_breach_is_named(chain: Chain, rule: str, break_it: Break) -> None:
    break_it(chain)
    named = found(chain, deep=rule in DEEP)
    assert rule in named, named
    assert all(one.where and one.expected and one.found and one.expected != one.found for one in named[rule])


def flip_a_bit(chain: Chain, key: str) -> None:
    path = path_of(chain, key)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("key_of", "rule"),
    [(blob(1), "a submission's blob is there"), (part, "a part is there, as its outcome says")],
    ids=["blob", "part"],
)
def test_a_flipped_bit_is_found_by_looking_deep(chain: Chain, key_of: Callable[[Chain], str], rule: str) -> None:
    flip_a_bit(chain, key_of(chain))
    assert found(chain) == {}
    assert rule in found(chain, deep=True)


def test_the_hash_of_a_token_is_found_too(chain: Chain) -> None:
    digest = hashlib.sha256((chain.data / TOKEN).read_bytes()).hexdigest()
    change(lambda _: keys.project("p"), description=digest)(chain)
    assert "no token is in the public bucket" not in found(chain)
    chain.push(digest.encode())
    assert list(found(chain, deep=True)) == ["no token is in the public bucket"]


# --- while others work ---


def test_what_is_under_way_is_no_breach_unless_nothing_should_be(chain: Chain) -> None:
    chain.push(measured(50))
    assert found(chain, deep=True) == {}
    assert list(found(chain, settled=True)) == ["a submission is announced, or waits with its marker"]
    batch = chain.announce()
    assert found(chain, deep=True) == {}
    assert list(found(chain, settled=True)) == ["each submission ends"]
    chain.process(batch)
    assert found(chain, deep=True) == {}
    assert list(found(chain, settled=True)) == ["an outcome is announced, or waits with its marker"]
    chain.announce_outcomes()
    assert found(chain, deep=True, settled=True) == {}


def test_a_withdrawal_that_was_carried_out_is_no_breach(chain: Chain) -> None:
    """Nor before: it is under way from the first moment on."""
    withdrawn(chain, chain.submissions.entries(WITHDRAWN, WITHDRAWN)[0].id)
    assert found(chain, deep=True) == {}
    assert list(found(chain, settled=True)) == ["a withdrawal is announced, or waits with its marker", *UNDER_WAY]
    purged(chain)
    assert found(chain, deep=True, settled=True) == {}


UNDER_WAY = [
    "a withdrawal is carried out",
    "a withdrawn blob is gone, with its submissions",
    "a submission is withdrawn in every lake version, if its blob is, and has no rows",
]


@pytest.mark.parametrize(
    ("at", "noted"),
    [
        *((at, False) for at in ("submissions/", "lake/", "checkpoints/", "feeds/", "blobs/", "withdrawals/", "")),
        *((at, True) for at in ("lake/", "feeds/")),
    ],
)
def test_what_is_withdrawn_while_the_doctor_looks_is_no_breach(chain: Chain, at: str, *, noted: bool) -> None:
    """From the first step or from the last it is carried out wholly, in the moment in which the doctor has read up to
    `at`."""
    id = chain.submissions.entries(WITHDRAWN, WITHDRAWN)[0].id
    happened: list[str] = []
    if noted:
        withdrawn(chain, id)

    def meanwhile(verb: str, prefix: str) -> None:
        if verb in ("list", "head") and prefix.startswith(at) and not happened:
            happened.append(prefix)
            withdrawn(chain, id)
            purged(chain)

    chain.public.before = chain.private.before = meanwhile
    assert found(chain, deep=True) == {}
    assert happened
    assert found(chain, deep=True, settled=True) == {}


@pytest.mark.parametrize("at", ["submissions/", "lake/", "pending/", "checkpoints/", "feeds/", "blobs/", ""])
def test_results_that_arrive_while_the_doctor_looks_are_no_breach(chain: Chain, at: str) -> None:
    """A whole batch goes its way in the moment in which the doctor has read up to `at`."""
    arrived: list[str] = []

    def arrive(verb: str, prefix: str) -> None:
        if verb in ("list", "head") and prefix.startswith(at) and not arrived:
            arrived.append(prefix)
            chain.done(measured(77), b"nonsense of another kind")
            write_checkpoint(chain.buckets.private, 1, 13)

    chain.public.before = chain.private.before = arrive
    assert found(chain, deep=True, settled=True) == {}
    assert arrived
    assert found(chain, deep=True, settled=True) == {}


def test_a_breach_is_found_in_a_version_that_does_not_serve(chain: Chain) -> None:
    version_2 = next(key for key in chain.parts(2) if "/runs/" in key)
    path_of(chain, version_2).unlink()
    assert list(found(chain, settled=True)) == ["a part is there, as its outcome says"]


# --- the command ---


def run(chain: Chain, *options: str) -> Result:
    return CliRunner().invoke(doctor, ["--data", str(chain.data), *options], catch_exceptions=False)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNFEED_DATA", "RUNFEED_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def test_the_command_says_what_it_looked_at_and_that_nothing_is_wrong(chain: Chain) -> None:
    result = run(chain, "--deep")
    assert result.exit_code == 0
    assert "Looked at 11 submissions, 1 current catalogs, 1 catalogs, 11 outcomes" in result.output
    assert result.output.endswith("no breaches.\n")


def test_the_command_names_breaches_and_ends_with_1(chain: Chain) -> None:
    remove(part)(chain)
    result = run(chain)
    assert result.exit_code == 1
    assert (
        f"a part is there, as its outcome says:\n  {outcome(5)(chain)}, part {part(chain)}: expected" in result.output
    )
    assert "1 breaches" in result.output


def test_the_command_writes_json_lines(chain: Chain) -> None:
    remove(part)(chain)
    result = run(chain, "--json")
    assert result.exit_code == 1
    [line] = [json.loads(line) for line in result.stdout.splitlines()]
    assert line["rule"] == "a part is there, as its outcome says"
    assert line["found"] == "none"


def test_the_doctor_sees_the_same_on_s3(chain: Chain, s3_server: S3Server) -> None:
    names = (f"doctor-{secrets.token_hex(4)}-public", f"doctor-{secrets.token_hex(4)}-private")
    public, private = (open_s3(f"s3://{name}", s3_server.environ) for name in names)
    for source, target in ((chain.public, public), (chain.private, private)):
        for key in source.list(""):
            target.create(key, source.read(key))
    buckets = Buckets(public, private)
    assert list(breaches(buckets, chain.now, deep=True, settled=True)) == []
    public.delete(part(chain))
    assert [one.rule for one in breaches(buckets, chain.now)] == ["a part is there, as its outcome says"]
