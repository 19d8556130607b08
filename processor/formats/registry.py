"""All formats, a line each."""

from processor.formats import Format, native

FORMATS: dict[str, Format] = {module.FORMAT.id: module.FORMAT for module in (native,)}
