"""One module per result format. Each says in its docstring what the format's fields become.

A format is pure: decoded bytes and an empty `Tables` in, rows and problems out. Adding one is a module here, a line in
`registry.py` and a golden pair in `tests/formats/`; CONTRIBUTING.md has the recipe.
"""

from collections.abc import Callable
from dataclasses import dataclass

from processor.reading.decode import Buffer
from processor.reading.shape import Shape
from processor.tables import Tables


@dataclass(frozen=True)
class Format:
    """How to recognise and read one format.

    `claims` decides by structure alone, cheaply; at most one format may claim a blob. `read` fills the tables; it
    raises Rejected where the file as a whole cannot be read, refuses a single run with `RunRows.refuse`, and lists
    every problem it can find rather than the first. Any other exception is a bug and quarantines the submission.
    """

    id: str
    title: str
    made_by: str
    """How one gets such a file: the command that writes it, where there is one."""
    example: str
    """The smallest file of the format that gives a row; `runfeed formats` shows it, a test reads it."""
    claims: Callable[[Shape], bool]
    read: Callable[[Buffer, Tables], None]
    long_array: str = ""
    """An array at the top level of the JSON that may be cut, for files too large to be read at once: any part of it,
    with the rest of the document, must read as rows of the one run that the file is. `read` takes the array from
    `Tables.long_array` if that is given, and sets `Tables.elements`."""
