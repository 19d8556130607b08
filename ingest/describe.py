"""What a sender says of a file, from query parameters or a JSON part. Pure; every refusal names the field.

`project`, `format` and `media_type` are text, `context` is JSON of `schemas.records.Context`. In a query, `commit`,
`branch`, `environment`, `label=k=v`, `chunk=i/n` with `run_group`, and `supersedes` may also be given one by one.
"""

import re
from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR
from typing import Any

import msgspec

from schemas import keys
from schemas.errors import Refused
from schemas.problems import problem_of
from schemas.records import Chunk, Commit, Context

MAX_CONTEXT_BYTES = 32 << 10

_PARAMETERS = frozenset(
    {
        "project",
        "format",
        "media_type",
        "context",
        "commit",
        "branch",
        "environment",
        "label",
        "chunk",
        "run_group",
        "supersedes",
    }
)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}")
_FORMAT = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")  # or that of a benchmark, see `schemas.keys`
_CHUNK = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_LARGEST = 2**31 - 1
"""Of the numbers in a context, as wide as the lake's columns. No machine and no run comes near."""


class Description(msgspec.Struct, forbid_unknown_fields=True):
    """What the sender says of the file."""

    project: str = ""
    """Empty only until the receiver has put its default there."""
    format: str = "auto"
    media_type: str = ""
    context: Context = Context()


def described(query: Mapping[str, Any], content_type: str) -> Description:
    """The description that query parameters give. Refused 400 for an unknown one, 422 for a value out of form."""
    unknown = sorted(set(query) - _PARAMETERS)
    if unknown:
        raise Refused(f"query {unknown[0][:40]}", "one of " + ", ".join(sorted(_PARAMETERS)), "an unknown parameter")
    single = {name: _single(name, value) for name, value in query.items() if name != "label"}
    context = _parsed_context(single["context"]) if "context" in single else Context()
    changes: dict[str, Any] = {}
    if "commit" in single or "branch" in single:
        commit = context.commit or Commit(id="")
        commit = msgspec.structs.replace(commit, branch=single.get("branch", commit.branch))
        if "commit" in single:
            commit = msgspec.structs.replace(commit, id=single["commit"], declared=True)
        changes["commit"] = commit
    if "environment" in single:
        changes["environment"] = single["environment"]
    if "supersedes" in single:
        changes["supersedes"] = keys.checked_sha256(single["supersedes"], "query supersedes")
    if "label" in query:
        labels = query["label"] if isinstance(query["label"], list) else [query["label"]]
        changes["labels"] = {**context.labels, **dict(_label(label) for label in labels)}
    if "chunk" in single:
        changes["chunk"] = _chunk(single["chunk"], single.get("run_group", ""))
    return checked_description(
        Description(
            project=single.get("project", "default"),
            format=single.get("format", "auto"),
            media_type=single.get("media_type") or clean_media_type(content_type),
            context=msgspec.structs.replace(context, **changes),
        )
    )


def parsed_description(body: bytes | str, *, project: str = "default", where: str = "submission") -> Description:
    """The description in a JSON part, of `project` if it names none; Refused 413 or 422."""
    if len(body) > MAX_CONTEXT_BYTES:
        raise Refused(where, f"at most {MAX_CONTEXT_BYTES:,} bytes", "more", status=413)
    try:
        description = msgspec.json.decode(body, type=Description)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        problem = problem_of(error, where)
        raise Refused(problem.where, problem.expected, problem.found, status=422) from error
    description.project = description.project or project
    return checked_description(description)


def described_by_metadata(metadata: Mapping[str, str], content_type: str, *, project: str) -> Description | None:
    """The description that an object's metadata gives, of `project` if it names none; None if it says nothing of ours.

    Names are those of the query, with `-` for `_`, and `label-NAME` for each label. Tools put names of their own there
    (`mtime`, `md5chksum`), so what is unknown is passed over. Refused 422 for a value out of form.
    """
    named = {name.lower().replace("-", "_"): value for name, value in metadata.items()}
    query: dict[str, Any] = {name: value for name, value in named.items() if name in _PARAMETERS - {"label"}}
    labels = [
        f"{name[len('label-') :]}={value}" for name, value in metadata.items() if name.lower().startswith("label-")
    ]
    if "label" in named:
        labels.append(named["label"])
    if labels:
        query["label"] = labels
    return described({"project": project, **query}, content_type) if query else None


def checked_description(description: Description) -> Description:
    """`description` if its values are in form, else Refused 422 that names the field."""
    keys.checked_project(description.project)
    if not (_FORMAT.fullmatch(description.format) or keys.parse_benchmark_format(description.format)):
        expected = "a format's id, benchmark:NAME, or auto"
        raise Refused("format", expected, repr(description.format[:60]), status=422)
    if description.media_type and not _MEDIA_TYPE.fullmatch(description.media_type):
        found = repr(description.media_type[:80])
        raise Refused("media_type", "type/subtype in lower case, without parameters", found, status=422)
    context = description.context
    if len(msgspec.json.encode(context)) > MAX_CONTEXT_BYTES:
        raise Refused("context", f"at most {MAX_CONTEXT_BYTES:,} bytes", "more", status=422)
    if context.commit and context.commit.time and not MINYEAR < context.commit.time.year < MAXYEAR:
        # At the very ends of the calendar a time cannot be shown in every zone.
        raise Refused("context/commit/time", "a time of the years 2 to 9998", str(context.commit.time), status=422)
    if context.machine:
        for name in ("cores", "ram_gib"):
            number = getattr(context.machine, name)
            if number is not None and not 0 <= number <= _LARGEST:
                raise Refused(f"context/machine/{name}", f"0 to {_LARGEST}", str(number)[:40], status=422)
    if context.chunk and not (1 <= context.chunk.index <= context.chunk.total <= _LARGEST and context.chunk.group):
        found = f"{context.chunk.index}/{context.chunk.total} of {context.chunk.group!r}"[:80]
        raise Refused("context/chunk", f"1 <= index <= total <= {_LARGEST}, and a run group", found, status=422)
    if context.supersedes:
        keys.checked_sha256(context.supersedes, "context/supersedes")
    return description


def _parsed_context(text: str) -> Context:
    if len(text) > MAX_CONTEXT_BYTES:
        raise Refused("query context", f"at most {MAX_CONTEXT_BYTES:,} bytes", f"{len(text):,}", status=422)
    try:
        return msgspec.json.decode(text, type=Context)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        problem = problem_of(error, "context")
        raise Refused(problem.where, problem.expected, problem.found, status=422) from error


def _single(name: str, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise Refused(f"query {name}", "one value", str(len(value)), status=400)
    return value[0]


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Refused("query label", "name=value", repr(text[:60]), status=422)
    return name, value


def _chunk(text: str, group: str) -> Chunk:
    match = _CHUNK.fullmatch(text)
    if not match:
        raise Refused("query chunk", "i/n, as in 2/8", repr(text[:40]), status=422)
    return Chunk(group=group, index=int(match[1]), total=int(match[2]))


def clean_media_type(text: str) -> str:
    """`text` if it is a media type without parameters, else nothing."""
    return text if _MEDIA_TYPE.fullmatch(text) else ""
