"""What fuzzing found in what the feed takes from strangers, each as small as it shows the fault."""

import pytest

from tests.fuzz.logs import check_document, check_source, document_seeds

HEAD = document_seeds()[0].decode()
ENTRY = HEAD.index("<entry>")


def changed(old: str, new: str) -> bytes:
    """The head with the first `old` in its newest entry replaced."""
    assert old in HEAD[ENTRY:]
    return (HEAD[:ENTRY] + HEAD[ENTRY:].replace(old, new, 1)).encode()


DOCUMENTS = {
    "a time that no zone can move": changed(
        "<published>2026-01-01T00:00:00+00:00", "<published>0001-01-01T00:00:00+23:59"
    ),
    "an enclosure outside": changed('href="../../', 'href="../../../../etc/'),
    "an enclosure of nothing": changed('href="../../withdrawals/', 'href="../../" title="'),
    "a comment in a title": changed("<title>", "<title>a<!-- -->"),
    "an instruction in a title": changed("<title>", "<title>a<?b?>"),
    "an element in a title": changed("<title>", "<title>a<b/>"),
    "two titles": changed("<title>", "<title>a</title><title>"),
    "two digests": changed("<rf:sha256>", f"<rf:sha256>{'0' * 64}</rf:sha256><rf:sha256>"),
    "two enclosures": changed("<link ", f'<link rel="enclosure" href="../../blobs/00/{"0" * 64}" length="1"/><link '),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_refused_by_name_or_says_the_same_to_everyone(name: str) -> None:
    """Two implementations that check one document must not come away with different entries."""
    check_document(DOCUMENTS[name])


@pytest.mark.parametrize(
    "body",
    [b"<item<links/</", b"<?encoding='\xff'?>", b"<?encoding='\0'?>"],
    ids=["links without rel", "an encoding that is none", "a null in the encoding"],
)
def test_a_feed_at_which_feedparser_stumbles_is_a_problem_of_the_feed(body: bytes) -> None:
    check_source(body)
