"""A change to the sample library: what one commit does to its files, as data."""

from dataclasses import dataclass
from textwrap import dedent
from typing import Literal

Tree = dict[str, str]
"""Path to text of every file of one commit."""

Mark = Literal["", "slower", "fixed", "faster", "broken", "repaired"]


@dataclass(frozen=True)
class Edit:
    """`old` is None to write the whole file, empty to add `new` at the end, else the passage that `new` replaces."""

    path: str
    new: str
    old: str | None = None


@dataclass(frozen=True)
class Change:
    """One commit. `mark` says what a dashboard should show there, if anything."""

    subject: str
    edits: tuple[Edit, ...]
    mark: Mark = ""


def change(subject: str, *edits: Edit, mark: Mark = "") -> Change:
    return Change(subject, edits, mark)


def write(path: str, text: str) -> Edit:
    """A new file, or a new text for an old one."""
    return Edit(path, _text(text))


def append(path: str, text: str, *, blank_lines: int = 2) -> Edit:
    """More at the end of a file, after `blank_lines`."""
    return Edit(path, "\n" * blank_lines + _text(text), old="")


def replace(path: str, old: str, new: str) -> Edit:
    """Another passage in place of `old`, which must stand in the file exactly once."""
    return Edit(path, new, old=old)


def apply(tree: Tree, change: Change) -> Tree:
    """The files after `change`; ValueError if a passage to replace is not there exactly once."""
    after = dict(tree)
    for edit in change.edits:
        if edit.old is None:
            after[edit.path] = edit.new
        elif not edit.old:
            after[edit.path] += edit.new
        else:
            if (times := after[edit.path].count(edit.old)) != 1:
                raise ValueError(f"{change.subject}: {edit.path} has {edit.old!r} {times} times, expected once")
            after[edit.path] = after[edit.path].replace(edit.old, edit.new)
    return after


def _text(text: str) -> str:
    return dedent(text).lstrip("\n")
