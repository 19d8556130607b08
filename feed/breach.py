"""A log that is not what it promises to be: the one answer that no second try makes better."""

from schemas.errors import RunfeedError


class Breach(RunfeedError):
    """A promise of a log is broken; says where, what was expected, what was found."""

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found
