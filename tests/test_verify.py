"""What verify proves of a log, and that it finds, and names first, whatever was changed."""

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from feed.atom import parse_document
from feed.breach import Breach
from feed.chain import START
from feed.signing import Signer
from feed.verify.cli import verify_command
from feed.verify.proof import Remembered
from feed.verify.verify import Verified, Wish, verify
from infra.folder import FolderBucket
from schemas import keys
from schemas.records import Category, Entry
from tests.logs import SmallPages, bulk, copied, forge
from tests.silent_log import forge_silently

LOG = keys.SUBMISSIONS_LOG
HEAD = keys.feed_head(LOG)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 entries in pages of three and a head, made once."""
    data = tmp_path_factory.mktemp("made") / "data"
    SmallPages(data).grow(20)
    return data


@pytest.fixture
def chain(made: Path, tmp_path: Path) -> SmallPages:
    """A copy of them to do things to."""
    return copied(made, tmp_path / "data")


def verified(chain: SmallPages, **wish: object) -> Verified:
    return verify(chain.public.bucket, LOG, Wish(looks_again=(), **wish))  # type: ignore[arg-type]


def first_breach(chain: SmallPages, **wish: object) -> Breach:
    found = verified(chain, **wish)
    assert found.remembered is None
    [breach] = found.breaches
    return breach


def lasts(chain: SmallPages) -> list[int]:
    return [page.last for key in chain.page_keys() if (page := keys.parse_page(key))]


def test_a_healthy_log_is_proved_with_all_that_it_names(chain: SmallPages) -> None:
    found = verified(chain)
    assert (found.breaches, found.notes) == ([], [])
    assert (found.entries, found.objects, found.pages) == (20, 40, len(chain.page_keys()))
    assert found.pages > 3
    head = chain.submissions.head().document
    assert head.checkpoint
    assert found.remembered == Remembered(
        feed=found.feed,
        seq=20,
        chain=head.checkpoint.chain,
        key=chain.signer.public_key,
        time=head.checkpoint.time,
    )
    assert found.size_bytes > sum(entry.size_bytes for entry in chain.entries())


def test_pages_alone_are_proved_without_reading_a_blob(chain: SmallPages) -> None:
    for entry in chain.entries():
        chain.public.bucket.delete(entry.key)
    assert verified(chain, depth="pages").breaches == []


# --- pages ---


def test_a_flipped_bit_in_a_page_is_found_there(chain: SmallPages) -> None:
    key = chain.page_keys()[2]
    body = bytearray(chain.path(key).read_bytes())
    body[len(body) // 2] ^= 1
    chain.path(key).write_bytes(body)
    breach = first_breach(chain)
    assert breach.where == key
    assert "digest" in breach.expected


def test_a_truncated_page_is_found_there(chain: SmallPages) -> None:
    key = chain.page_keys()[1]
    chain.path(key).write_bytes(chain.path(key).read_bytes()[:-200])
    assert first_breach(chain).where == key


def test_a_missing_page_is_found_there(chain: SmallPages) -> None:
    key = chain.page_keys()[1]
    chain.public.bucket.delete(key)
    breach = first_breach(chain)
    assert (breach.where, breach.found) == (key, "none")


def test_pages_that_changed_places_are_found(chain: SmallPages) -> None:
    one, other = (chain.path(key) for key in chain.page_keys()[1:3])
    bodies = one.read_bytes(), other.read_bytes()
    one.write_bytes(bodies[1])
    other.write_bytes(bodies[0])
    assert first_breach(chain).where == chain.page_keys()[1]


def test_a_page_from_another_log_of_the_same_range_is_found(chain: SmallPages, tmp_path: Path) -> None:
    """It is a page that its name describes rightly; only links and chain tell."""
    other = SmallPages(tmp_path / "other")
    other.grow(20, start=100)
    mine, theirs = chain.page_keys()[1], other.page_keys()[1]
    chain.public.bucket.create(theirs, other.public.bucket.read(theirs))
    entries = chain.public.bucket.read(keys.feed_index(LOG)).decode()
    chain.path(keys.feed_index(LOG)).write_text(entries.replace(mine, theirs))
    assert theirs in first_breach(chain).where


def rewritten(entries: list[Entry], seq: int = 7) -> list[Entry]:
    """One entry tells of another project."""
    return [msgspec.structs.replace(one, title="forged") if one.seq == seq else one for one in entries]


def test_a_rewritten_entry_that_nobody_signs_is_found_at_the_checkpoint(chain: SmallPages) -> None:
    """Though all digests, links and chains after it were made anew."""
    authority = chain.signer.authority
    forge(chain.public.bucket, rewritten(chain.entries()), lasts(chain), authority=authority)
    breach = first_breach(chain)
    assert breach.where == f"{HEAD} checkpoint"
    assert breach.found == "none"


def test_the_old_checkpoint_does_not_fit_a_rewritten_past(chain: SmallPages) -> None:
    checkpoint = re.search(rb"<rf:checkpoint[^>]*>", chain.public.bucket.read(HEAD))
    assert checkpoint
    forge(
        chain.public.bucket,
        rewritten(chain.entries()),
        lasts(chain),
        signer=chain.signer,
        authority=chain.signer.authority,
    )
    body = re.sub(rb"<rf:checkpoint[^>]*>", checkpoint[0], chain.path(HEAD).read_bytes())
    chain.path(HEAD).write_bytes(body)
    breach = first_breach(chain)
    assert breach.where == f"{HEAD} checkpoint"
    assert "chain" in breach.expected


def test_a_rewritten_past_signed_with_another_key_is_found(chain: SmallPages, tmp_path: Path) -> None:
    forger = Signer.of(FolderBucket(tmp_path / "forger"))
    entries, ends = rewritten(chain.entries()), lasts(chain)
    forge(chain.public.bucket, entries, ends, signer=forger, authority=chain.signer.authority)
    breach = first_breach(chain)
    assert breach.where == f"{HEAD} checkpoint"
    assert chain.signer.authority in breach.expected


def test_a_forger_who_takes_the_name_too_is_found_by_whoever_knows_the_key(chain: SmallPages, tmp_path: Path) -> None:
    known = verified(chain).remembered
    forger = Signer.of(FolderBucket(tmp_path / "forger"))
    forge(chain.public.bucket, rewritten(chain.entries()), lasts(chain), signer=forger, authority=forger.authority)
    assert verified(chain).breaches == []  # it is a log like any other
    assert chain.signer.public_key[:32] in first_breach(chain, key=chain.signer.public_key).expected
    breach = first_breach(chain, remembered=known)
    assert known
    assert known.feed in breach.expected


def test_a_past_rewritten_with_the_stolen_key_is_found_by_whoever_remembers(chain: SmallPages) -> None:
    known = verified(chain).remembered
    chain.grow(3, start=50)
    forge(
        chain.public.bucket,
        rewritten(chain.entries()),
        lasts(chain),
        signer=chain.signer,
        authority=chain.signer.authority,
    )
    assert verified(chain).breaches == []
    breach = first_breach(chain, remembered=known)
    assert breach.where == f"log {LOG}, entries 1 to 20"
    assert "remembered of 2026-05-01" in breach.expected


def test_a_log_that_goes_on_is_what_was_remembered(chain: SmallPages) -> None:
    known = verified(chain).remembered
    chain.grow(5, start=50)
    found = verified(chain, remembered=known)
    assert found.breaches == []
    assert found.remembered
    assert found.remembered.seq == 25


def test_a_log_that_was_empty_when_it_was_remembered_may_grow(chain: SmallPages) -> None:
    known = Remembered(feed=verified(chain).feed, seq=0, chain=START)
    assert verified(chain, remembered=known).breaches == []


def test_a_dropped_entry_is_found_where_it_is_missing(chain: SmallPages) -> None:
    """Even if everything was signed anew."""
    entries = [entry for entry in chain.entries() if entry.seq != 8]
    forge(chain.public.bucket, entries, lasts(chain), signer=chain.signer, authority=chain.signer.authority)
    breach = first_breach(chain)
    assert (breach.expected, breach.found) == ("entry 8", "entry 9")


def test_an_entry_that_is_announced_twice_is_found(chain: SmallPages) -> None:
    """Also by whoever signs it so."""
    entries = chain.entries()
    entries[8] = msgspec.structs.replace(entries[2], seq=9, batch=9, updated=entries[8].updated)
    forge(chain.public.bucket, entries, lasts(chain), signer=chain.signer, authority=chain.signer.authority)
    breach = first_breach(chain)
    assert breach.where == "entry 9"
    assert breach.found == f"{entries[2].id}, as entry 3"


def test_an_entry_that_is_older_than_the_one_before_it_is_found(chain: SmallPages) -> None:
    entries = chain.entries()
    entries[5] = msgspec.structs.replace(entries[5], updated=entries[0].updated)
    forge(chain.public.bucket, entries, lasts(chain), signer=chain.signer, authority=chain.signer.authority)
    breach = first_breach(chain)
    assert breach.where.endswith("entry 6")
    assert breach.expected == f"updated at {entries[4].updated.isoformat()} or later"


def test_a_dropped_entry_whose_followers_move_up_is_found_by_whoever_remembers(chain: SmallPages) -> None:
    known = verified(chain).remembered
    entries = [entry for entry in chain.entries() if entry.seq != 8]
    entries = [msgspec.structs.replace(entry, seq=at, batch=at) for at, entry in enumerate(entries, 1)]
    forge(chain.public.bucket, entries, lasts(chain), signer=chain.signer, authority=chain.signer.authority)
    assert verified(chain).breaches == []
    assert "only 1 to 19" in first_breach(chain, remembered=known).found


def test_a_head_that_was_rolled_back_is_found(chain: SmallPages) -> None:
    """By its index, and, if that went back too, by whoever remembers."""
    index, head = chain.path(keys.feed_index(LOG)).read_bytes(), chain.path(HEAD).read_bytes()
    chain.grow(10, start=50)
    known = verified(chain).remembered
    chain.path(HEAD).write_bytes(head)
    assert first_breach(chain).where == keys.feed_index(LOG)
    chain.path(keys.feed_index(LOG)).write_bytes(index)
    assert verified(chain).breaches == []
    breach = first_breach(chain, remembered=known)
    assert (breach.found, "1 to 30" in breach.expected) == ("only 1 to 20", True)


def test_a_checkpoint_of_another_log_is_found(chain: SmallPages) -> None:
    """Signed by the right key, of the same seq and chain."""
    entries = chain.entries()
    ends = lasts(chain)
    forge(chain.public.bucket, entries, ends, signer=chain.signer, authority=chain.signer.authority)
    head = parse_document(chain.path(HEAD).read_bytes())
    assert head.checkpoint
    other = chain.signer.sign("outcomes-v1", 20, head.checkpoint.chain, head.checkpoint.time)
    body = chain.path(HEAD).read_text().replace(head.checkpoint.signature, other.signature)
    chain.path(HEAD).write_text(body)
    breach = first_breach(chain)
    assert breach.where == f"{HEAD} checkpoint"
    assert "signature" in breach.expected


@pytest.mark.parametrize("damage", ["of no JSON", "of another log", "of a wrong digest"])
def test_a_damaged_index_is_found_and_keeps_nobody_from_the_rest(chain: SmallPages, damage: str) -> None:
    path = chain.path(keys.feed_index(LOG))
    index = path.read_text()
    sha256 = json.loads(index)["pages"][1]["sha256"]
    forged = {
        "of no JSON": index[:-5],
        "of another log": index.replace(f'"log":"{LOG}"', '"log":"outcomes-v1"'),
        "of a wrong digest": index.replace(sha256, sha256[:16] + "0" * 48),
    }
    path.write_text(forged[damage])
    found = verified(chain, every=True)
    assert found.entries == 20 or damage == "of a wrong digest"
    assert len(found.breaches) == 1


# --- what entries name ---


def other_bytes(chain: SmallPages, entry: Entry) -> None:
    path = chain.path(entry.key)
    path.write_bytes(path.read_bytes()[::-1])


def shorter(chain: SmallPages, entry: Entry) -> None:
    path = chain.path(entry.key)
    path.write_bytes(path.read_bytes()[:-1])


def longer(chain: SmallPages, entry: Entry) -> None:
    path = chain.path(entry.key)
    path.write_bytes(path.read_bytes() * 3)


def gone(chain: SmallPages, entry: Entry) -> None:
    chain.path(entry.key).unlink()


def submission_gone(chain: SmallPages, entry: Entry) -> None:
    chain.path(keys.submission(entry.id)).unlink()


def submission_of_another_project(chain: SmallPages, entry: Entry) -> None:
    path = chain.path(keys.submission(entry.id))
    path.write_text(path.read_text().replace('"project":"p"', '"project":"q"'))


def submission_of_another_blob(chain: SmallPages, entry: Entry) -> None:
    path = chain.path(keys.submission(entry.id))
    path.write_text(path.read_text().replace(entry.sha256, "0" * 64))


def no_submission(chain: SmallPages, entry: Entry) -> None:
    chain.path(keys.submission(entry.id)).write_text("[]")


@pytest.mark.parametrize(
    "tamper",
    [
        other_bytes,
        shorter,
        longer,
        gone,
        submission_gone,
        submission_of_another_project,
        submission_of_another_blob,
        no_submission,
    ],
    ids=lambda tamper: tamper.__name__,
)
def test_what_was_done_to_an_object_is_found_at_its_first_entry(
    chain: SmallPages, tamper: Callable[[SmallPages, Entry], None]
) -> None:
    entries = chain.entries()
    for seq in (17, 6):
        tamper(chain, entries[seq - 1])
    assert first_breach(chain).where.startswith("entry 6: ")


def test_the_first_breach_in_the_order_of_the_log_is_named_and_all_on_request(chain: SmallPages) -> None:
    entries = chain.entries()
    gone(chain, entries[18])
    key = chain.page_keys()[2]
    chain.path(key).write_bytes(chain.path(key).read_bytes().replace(b"result", b"rEsult", 1))
    other_bytes(chain, entries[1])
    assert first_breach(chain).where.startswith("entry 2: ")
    found = verified(chain, every=True)
    assert [breach.where.split(":")[0] for breach in found.breaches] == ["entry 2", key, "entry 19"]


# --- withdrawals ---


def test_what_a_withdrawal_took_is_held(chain: SmallPages) -> None:
    chain.purge(chain.withdraw(chain.entries()[4].id))
    chain.grow(5, start=50)
    assert verified(chain).breaches == []


def test_a_missing_blob_is_not_held_by_a_withdrawal_of_another(chain: SmallPages) -> None:
    chain.purge(chain.withdraw(chain.entries()[4].id))
    gone(chain, chain.entries()[9])
    breach = first_breach(chain)
    assert breach.where.startswith("entry 10: blobs/")
    assert breach.found == "neither"


def test_a_record_of_withdrawal_that_the_log_does_not_announce_is_no_excuse(chain: SmallPages) -> None:
    """Else whoever can write to the bucket could drop what they like."""
    sha256 = chain.withdraw(chain.entries()[4].id, announced=False)
    assert verified(chain).breaches == []
    chain.purge(sha256)
    assert first_breach(chain).where.startswith("entry 5: ")


def test_a_missing_record_of_an_announced_withdrawal_is_found(chain: SmallPages) -> None:
    sha256 = chain.withdraw(chain.entries()[4].id)
    chain.public.bucket.delete(keys.withdrawal(sha256))
    assert first_breach(chain).where == f"entry 21: {keys.withdrawal(sha256)}"


def test_a_withdrawn_blob_that_is_still_there_is_noted(chain: SmallPages) -> None:
    """Removing takes a while; that it is not done is no lie of the log."""
    sha256 = chain.withdraw(chain.entries()[4].id)
    found = verified(chain)
    assert found.breaches == []
    assert found.notes == [f"entry 21 withdraws blob {sha256}, which is still there"]


def test_a_withdrawal_announced_while_one_verifies_is_taken_into_account(
    chain: SmallPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head was read before; what it does not say yet is looked up at the end."""
    entry = chain.entries()[4]

    def withdraw_meanwhile(verb: str, key: str) -> None:
        if (verb, key) == ("read", chain.page_keys()[0]):
            chain.public.before = lambda *_: None
            chain.purge(chain.withdraw(entry.id))

    chain.public.before = withdraw_meanwhile
    found = verify(chain.public, LOG, Wish(looks_again=(), parallel=1))  # type: ignore[arg-type]
    assert found.breaches == []
    assert not chain.path(entry.key).exists()


# --- outcomes ---


def test_outcomes_and_their_parts_are_proved(chain: SmallPages) -> None:
    for seq in range(1, 4):
        chain.process((seq, seq))
    chain.announce_outcomes()
    log = keys.outcomes_log(1)
    found = verify(chain.public.bucket, log, Wish(looks_again=()))
    assert (found.breaches, found.entries) == ([], 3)
    assert found.objects > 3
    part = chain.parts()[0]
    chain.path(part).write_bytes(chain.path(part).read_bytes()[::-1])
    [breach] = verify(chain.public.bucket, log, Wish(looks_again=())).breaches
    assert part in breach.where
    chain.path(part).unlink()
    [breach] = verify(chain.public.bucket, log, Wish(looks_again=())).breaches
    assert (part in breach.where, breach.found) == (True, "neither")


# --- releases ---


def plain(entries: list[Entry]) -> list[Entry]:
    """As a release before there were chains told them."""
    return [msgspec.structs.replace(entry, categories=(), summary=entry.summary) for entry in entries]


def test_a_log_of_an_earlier_release_is_proved_as_far_as_it_goes_and_that_is_said(chain: SmallPages) -> None:
    forge(chain.public.bucket, plain(chain.entries()), lasts(chain), old=True)
    found = verified(chain)
    assert (found.breaches, found.entries) == ([], 20)
    assert found.notes == ["log submissions was kept by an earlier release: it has no chain and no checkpoint"]
    key = chain.page_keys()[2]
    chain.path(key).write_bytes(chain.path(key).read_bytes().replace(b"result", b"rEsult", 1))
    assert first_breach(chain).where == key


def test_a_log_that_an_earlier_release_began_and_this_one_goes_on_with_is_proved(chain: SmallPages) -> None:
    forge(chain.public.bucket, plain(chain.entries()), lasts(chain), old=True)
    known = verified(chain).remembered
    chain.grow(10, start=50)
    found = verified(chain, remembered=known)
    assert found.breaches == []
    assert found.remembered
    assert (found.remembered.seq, found.remembered.key) == (30, chain.signer.public_key)
    assert "taken at its word" in found.notes[0]


# --- from somewhere ---


def test_verifying_from_a_seq_on_looks_at_no_page_before_it(chain: SmallPages) -> None:
    entry, since = chain.entries()[12], 10
    chain.path(chain.page_keys()[0]).write_bytes(b"damaged")
    found = verified(chain, since=since)
    assert found.breaches == []
    assert found.notes[0].startswith("entries 1 to ")
    assert found.entries < 20
    gone(chain, entry)
    assert first_breach(chain, since=since).where.startswith("entry 13: ")


def test_verifying_a_part_does_not_make_forget_what_was_remembered_of_the_rest(
    chain: SmallPages, tmp_path: Path
) -> None:
    """Else a rewritten past would be accepted by looking behind it."""
    state = tmp_path / "state.json"
    assert run(chain.data, "--state", state).exit_code == 0
    chain.grow(12, start=50)
    entries, ends = rewritten(chain.entries()), lasts(chain)
    forge(chain.public.bucket, entries, ends, signer=chain.signer, authority=chain.signer.authority)
    result = run(chain.data, "--state", state, "--since", "28")
    assert result.exit_code == 0
    assert "entry 20, up to which it is remembered, is before that" in result.stdout
    assert run(chain.data, "--state", state).exit_code == 1


@pytest.mark.parametrize("since", [1, 8, 19])
@pytest.mark.parametrize("seq", [8, 20], ids=["page", "head"])
def test_a_chain_that_is_left_out_hides_nothing_and_makes_nothing_forget(
    chain: SmallPages, tmp_path: Path, seq: int, since: int
) -> None:
    """An entry is forged under the true checkpoint, and its document says no chain: who looks at it from anywhere finds
    it, and remembers the true past on."""
    state = tmp_path / "state.json"
    assert run(chain.data, "--state", state).exit_code == 0
    before = state.read_bytes()
    forge_silently(chain.root, seq)
    result = run(chain.data, "--state", state, "--since", str(since), "--no-blobs")
    if since <= seq:
        assert result.exit_code == 1
        assert "chain" in result.stdout
    assert state.read_bytes() == before
    assert run(chain.data, "--state", state, "--no-blobs").exit_code == 1


def test_what_an_earlier_release_remembered_is_no_false_breach(chain: SmallPages, tmp_path: Path) -> None:
    """Of a log without chains, seen from the middle on, there is none to remember; a file may say so all the same."""
    forge(chain.public.bucket, plain(chain.entries()), lasts(chain), old=True)
    state = tmp_path / "state.json"
    assert run(chain.data, "--state", state, "--since", "12").exit_code == 0
    assert not state.exists()
    known = verified(chain, since=12).remembered
    assert known
    assert (known.seq, known.chain) == (20, "")
    found = verified(chain, remembered=known)
    assert found.breaches == []
    assert found.remembered
    assert found.remembered.chain


# --- the command ---


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(verify_command, [str(one) for one in arguments])


def test_the_command_says_what_is_proved_and_remembers_it(chain: SmallPages, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    result = run(chain.data, "--state", state)
    assert result.exit_code == 0, result.output
    checkpoint = chain.submissions.head().document.checkpoint
    assert checkpoint
    assert "holds 1 to 20" in result.stdout
    assert checkpoint.chain in result.stdout
    assert chain.signer.public_key in result.stdout
    forge(
        chain.public.bucket,
        rewritten(chain.entries()),
        lasts(chain),
        signer=chain.signer,
        authority=chain.signer.authority,
    )
    result = run(chain.root, "--state", state)
    assert result.exit_code == 1
    assert "entries 1 to 20: expected the past as remembered" in result.stdout
    assert run(chain.data, "--state", state, "--forget").exit_code == 0
    assert run(chain.data, "--state", state).exit_code == 0


def test_the_command_gives_json_a_line_for_each_log(chain: SmallPages, tmp_path: Path) -> None:
    gone(chain, chain.entries()[3])
    result = run(chain.data, "--state", tmp_path / "state.json", "--json")
    assert result.exit_code == 1
    [line] = result.stdout.splitlines()
    told = json.loads(line)
    assert told["proved"] is False
    assert told["breaches"][0]["where"].startswith("entry 4: blobs/")
    result = run(chain.data, "--state", tmp_path / "state.json", "--json", "--no-blobs")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["seq"], told["key"]) == (0, 20, chain.signer.public_key)
    assert not re.search("nan|null", result.stdout)


def test_hostile_titles_do_not_reach_the_terminal(chain: SmallPages) -> None:
    entries = [
        msgspec.structs.replace(one, key="blobs/\u202e\u009b31m", categories=(Category(scheme="project", term="p"),))
        if one.seq == 3
        else one
        for one in chain.entries()
    ]
    forge(chain.public.bucket, entries, lasts(chain), signer=chain.signer, authority=chain.signer.authority)
    result = run(chain.data, "--state", chain.data / "state.json")
    assert result.exit_code == 1
    assert not re.search("[\u202e\u009b]", result.stdout)


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """What is held at once is a few pages and objects, however many there are."""
    peaks = []
    for count in (300, 1200):
        root = bulk(tmp_path / str(count), count, page=20)
        peaks.append(min(peak_of_verifying(root, count) for _ in range(3)))  # threads that meet only ever add to it
    assert peaks[1] < 1.3 * peaks[0], peaks


def peak_of_verifying(root: Path, count: int) -> int:
    tracemalloc.start()
    try:
        found = verify(FolderBucket(root), LOG, Wish(looks_again=(), parallel=2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.breaches, found.entries) == ([], count)
    return peak


def test_a_new_key_is_a_breach_until_one_is_told_of_it(chain: SmallPages) -> None:
    """As OPERATING.md says of a key that was lost or stolen."""
    old = chain.signer.public_key
    chain.private.bucket.delete(keys.SIGNING_KEY)
    chain.signer = Signer.of(chain.private.bucket)
    chain.grow(2, start=100)
    breach = first_breach(chain)
    assert (old[:32] in breach.expected, chain.signer.public_key[:32] in breach.found) == (True, True)
    assert verified(chain, key=chain.signer.public_key).breaches == []
