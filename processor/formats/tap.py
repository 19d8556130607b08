"""tap: the Test Anything Protocol, versions 12 (without a header), 13 and 14, as Perl, node and others write it.

    TAP version 14
    1..3
    ok 1 - adds numbers
    # Subtest: group
        1..2
        ok 1 - inner # SKIP no network
        not ok 2 - other # TODO not written
    ok 2 - group
    not ok 3 - subtracts numbers
      ---
      message: 'expected 1, found 2'
      duration_ms: 1.5
      ...

A file is one run; each test point is one row.

| part | becomes | notes |
|---|---|---|
| description | test | `\\#` and `\\\\` read as they are meant; without one, `#3`: its number |
| point in a subtest | subtest | test is the outermost point's, subtest the path below it: `group > other` |
| ok, not ok | status | pass, fail |
| `# SKIP reason` | status skip, message | whatever stands in front |
| `# TODO reason` | expected `fail`, message | status is what happened |
| `# time=12ms`, `duration_ms` | duration_seconds | node-tap's and node's |
| YAML block | extra, `diagnostic` | its text, if it says more than the next two; no YAML is interpreted |
| its `message`, else `error` | message | plain, quoted, or a block (`|-`) |
| comments after a point that is not ok | message | what Perl prints: `Failed test …`, `at … line 5.` |
| number | extra, `number` | only where it is not the next one |
| `Bail out! reason` | a row `(bail out)` | status error, reason as message |
| a plan that was not kept, or none | a row `(plan)` | status error; also of a subtest: `group > (plan)` |
| a subtest without its own point | a row | status error, named as its `# Subtest:` says |
| `1..0 # SKIP reason` | | nothing was run: flagged |
| `TAP version 14` | label `tool` | |

So a partial run never passes for a complete one. Numbers that come twice are flagged.

**Identity.** Names; numbers change whenever a test is added. Points of the same name are all kept, as rows of their
own. In a path ` > ` of a name is written ` %3E `. A name or path beyond 1,000 characters ends in a digest instead.

**Dialects.** A plan at either end; several documents in one file (another version line, or a plan or a point after a
document that is complete); node-tap's subtests in braces after their point; YAML indented by one to three; colours,
CRLF and UTF-16. Lines that are no TAP are counted as `line: other output`, and flagged after `pragma +strict`; other
comments are `line: comment`, other pragmas `line: pragma`. Lines nested deeper than 100 levels are other output.

Definition: https://testanything.org/tap-version-14-specification.html and https://testanything.org/tap-specification.html
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.shape import Shape
from processor.reading.text_lines import first_text, line_blocks
from processor.tables import RunFacts, RunRows, Tables

_MAX_DEPTH = 100
_MAX_NAME = 1000
_HEAD_BYTES = 1 << 16

_VERSION = re.compile(r"TAP version ([0-9]{1,4})\s*", re.IGNORECASE)
_PLAN = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})(?:\s*#\s*(?:skip(?:ped)?\b:?\s*)?(.*))?\s*", re.IGNORECASE)
_POINT = re.compile(r"(not )?ok(?:\s+([0-9]{1,9})(?=\s|$))?(?:\s+(?:-(?=\s|$)\s*)?(.*))?$")
_DIRECTIVE = re.compile(r"(?P<front>^|\s|\\\\)#\s*(?P<name>skip|todo)\S*(?:\s+(?P<reason>.*))?$|\\[\\#]", re.IGNORECASE)
_TIME = re.compile(r"(?:^|\s)#\s*time=([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s)\s*$")
_ESCAPED = re.compile(r"\\([\\#])")
_BAIL = re.compile(r"Bail out!\s*(.*)", re.IGNORECASE)
_PRAGMA = re.compile(r"pragma\s+([+-])([\w-]+)")
_SUBTEST = re.compile(r"# Subtest(?:: (.*))?")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:e[+-]?[0-9]{1,2})?", re.IGNORECASE)

_CLAIMED_POINT = re.compile(r"^(?:not )?ok(?: [0-9]{1,9}(?=[ \n]|\Z)| - |(?=\n|\Z))", re.MULTILINE)
_CLAIMED_PLAN = re.compile(r"^1\.\.[0-9]{1,9}[ \t]*(?:#.*)?$", re.MULTILINE)
_CLAIMED_VERSION = re.compile(r"^TAP version [0-9]{1,4}[ \t]*$", re.MULTILINE)
_NOTHING_PLANNED = re.compile(r"\s*1\.\.0[ \t]*(?:#.*)?\s*")

_PER_SECOND = {"ms": 1000, "s": 1}


@dataclass(slots=True)
class _Point:
    """A test point, or what stands for one. `status` and `expected` as in the table of tests."""

    line: int
    status: str
    name: str
    expected: str | None = None
    message: list[str] = field(default_factory=list)
    seconds: float | None = None
    number: int | None = None
    diagnostic: str = ""
    children: list["_Point"] = field(default_factory=list)


@dataclass(slots=True)
class _Document:
    """The test points of one indentation, as far as they have come. The outermost hands them on, others keep them."""

    line: int
    name: str = ""
    """From a comment `# Subtest: name`."""
    owner: _Point | None = None
    """The point in front of it, in node-tap's braces."""
    plan: int | None = None
    plan_line: int = 0
    plan_is_last: bool = False
    points: int = 0
    number: int = 0
    """The last point's."""
    contiguous: int = 0
    """All numbers from 1 to here came."""
    beyond: set[int] = field(default_factory=set)
    last: _Point | None = None
    strict: bool = False
    bailed: bool = False
    done: list[_Point] = field(default_factory=list)

    def take_number(self, number: int) -> bool:
        """Whether `number` is new."""
        self.number = number
        if number == 0:
            return True  # but not in a plan
        if number <= self.contiguous or number in self.beyond:
            return False
        self.beyond.add(number)
        while self.contiguous + 1 in self.beyond:
            self.contiguous += 1
            self.beyond.remove(self.contiguous)
        return True

    def is_complete(self) -> bool:
        return self.plan is not None and self.points >= self.plan

    def missing(self) -> int:
        """How many numbers of the plan did not come."""
        plan = self.plan or 0
        return plan - min(plan, self.contiguous + sum(1 for number in self.beyond if number <= plan))


def claims(shape: Shape) -> bool:
    if shape.kind != "text":
        return False
    head = first_text(shape.data, _HEAD_BYTES)
    if _CLAIMED_VERSION.search(head) or _NOTHING_PLANNED.fullmatch(head):
        return True
    if not _CLAIMED_POINT.search(head):
        return False
    tail = bytes(shape.data[-4096:]).decode("utf-8", "replace").replace("\r\n", "\n")
    return bool(_CLAIMED_PLAN.search(head) or _CLAIMED_PLAN.search(tail))


def read(data: Buffer, out: Tables) -> None:
    version = _CLAIMED_VERSION.search(first_text(data, _HEAD_BYTES))
    stream = _Stream(out, out.run(RunFacts(labels={"tool": version[0].strip() if version else "TAP"})))
    number = 0
    for block in line_blocks(data):
        for line in block:
            number += 1
            stream.read_line(number, line)
    stream.end()


class _Stream:
    """Reads line after line; hands each outermost point to the run when the next one comes."""

    def __init__(self, out: Tables, run: RunRows) -> None:
        self._out = out
        self._run = run
        self._levels = [_Document(line=1)]
        self._is_tap = False
        self._yaml: list[str] | None = None
        self._yaml_indent = 0
        self._yaml_line = 0
        self._recent: tuple[int, _Point] | None = None
        """Indentation and the point that a YAML block would belong to."""
        self._announced: dict[int, str] = {}
        """Names of subtests to come, by level."""

    def read_line(self, number: int, line: str) -> None:
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if self._yaml is not None and self._read_yaml(self._yaml, line, indent):
            return
        text = text.rstrip()
        if not text:
            return
        if self._recent and 0 < indent - self._recent[0] < 4 and text.split(" ")[0] == "---":
            self._yaml, self._yaml_indent, self._yaml_line = [], indent, number
            return
        level, rest = divmod(indent, 4)
        if text[0] == "#":
            self._read_comment(number, level, text)
        elif rest or level > _MAX_DEPTH or not self._read_statement(number, level, text):
            self._other(number, level, text)

    def end(self) -> None:
        """No more lines. Raises Rejected if there was no TAP among them."""
        if self._yaml is not None:
            self._unended_yaml()
        self._close_document(1)
        if not self._is_tap:
            raise rejected("line 1", "a plan (1..3) or a test point (ok 1 - name)", "none in the file")

    # --- statements ---

    def _read_statement(self, number: int, level: int, text: str) -> bool:
        """Whether it is TAP."""
        if text.startswith(("ok", "not ok")) and (match := _POINT.fullmatch(text)):
            self._read_point(number, level, match)
        elif text[0].isdigit() and (match := _PLAN.fullmatch(text)):
            self._read_plan(number, level, match)
        elif text[0] in "bB" and (match := _BAIL.match(text)):
            self._bail_out(number, _unescaped(match[1]).strip())
        elif text.startswith("pragma") and (match := _PRAGMA.fullmatch(text)):
            if match[2] == "strict":
                self._document(number, level).strict = match[1] == "+"
            else:
                self._out.leave_unread("line: pragma")
        elif text[:3] in ("TAP", "tap") and _VERSION.fullmatch(text):
            if level == 0 and (self._levels[0].points or self._levels[0].plan is not None):
                self._close_document(number)
        elif text == "}" and len(self._levels) > level + 1 and self._levels[level + 1].owner is not None:
            self._abandon(level + 1)
        else:
            return False
        return True

    def _read_point(self, number: int, level: int, match: re.Match[str]) -> None:
        self._is_tap = True
        if level == 0 and self._levels[0].plan_is_last and self._levels[0].is_complete():
            self._close_document(number)
        self._close_down_to(level)
        document = self._document(number, level)
        children = self._taken_children(level)
        text = match[3] or ""
        braced = text == "{" or text.endswith(" {")
        next_number = document.number + 1
        point_number = int(match[2]) if match[2] else next_number
        point = _point(number, match[1] is None, text[:-1].rstrip() if braced else text)
        point.name = point.name or f"#{point_number}"
        point.number = point_number if point_number != next_number else None
        point.children = children
        if not document.take_number(point_number):
            self._run.flag(f"line {number}", "a number that has not come yet", str(point_number))
        document.points += 1
        self._finish(document)
        document.last = point
        self._recent = (4 * level, point)
        if braced:
            self._levels.append(_Document(number, owner=point))

    def _read_plan(self, number: int, level: int, match: re.Match[str]) -> None:
        self._is_tap = True
        first, last, reason = int(match[1]), int(match[2]), _unescaped(match[3] or "").strip()
        if level == 0 and self._levels[0].is_complete():
            self._close_document(number)
        self._close_down_to(level + 1)
        document = self._document(number, level)
        self._recent = None
        if document.plan is not None:
            self._run.flag(f"line {number}", f"one plan, that of line {document.plan_line}", match[0][:80])
            return
        if first != 1:
            self._run.flag(f"line {number}", "a plan that begins with 1", match[0][:80])
        document.plan, document.plan_line, document.plan_is_last = last, number, document.points > 0
        if last == 0 and level == 0:
            self._run.flag(f"line {number}", "tests", f"all skipped: {reason}" if reason else "none planned")

    def _bail_out(self, number: int, reason: str) -> None:
        self._is_tap = True
        outermost = self._levels[0]
        if not outermost.bailed:
            for document in self._levels:
                document.bailed = True
            self._abandon(1)
            self._finish(outermost)
            self._emit(_Point(number, "error", "(bail out)", message=[reason] if reason else []), [])
            self._run.flag(f"line {number}", "a run to the end", f"Bail out! {reason}".strip()[:200])

    def _read_comment(self, number: int, level: int, text: str) -> None:
        announced = _SUBTEST.fullmatch(text)
        if announced and level <= _MAX_DEPTH:
            self._announced[level] = _unescaped(announced[1] or "").strip()
            self._recent = None
            return
        document = self._levels[level] if level < len(self._levels) else None
        point = document.last if document else None
        if point and self._recent and self._recent[1] is point and point.status == "fail":
            point.message.append(text[1:].strip())
        elif len(text) > 1:
            self._out.leave_unread("line: comment")

    def _other(self, number: int, level: int, text: str) -> None:
        self._out.leave_unread("line: other output")
        document = self._levels[min(level, len(self._levels) - 1)]
        if document.strict:
            self._run.flag(f"line {number}", "TAP only, as pragma +strict says", repr(text[:80]))

    # --- YAML ---

    def _read_yaml(self, block: list[str], line: str, indent: int) -> bool:
        """Whether the line belongs to the block that is open."""
        if line.strip() and indent < self._yaml_indent:
            self._unended_yaml()
            return False
        text = line[self._yaml_indent :].rstrip()
        if text == "...":
            self._end_yaml()
        else:
            block.append(text)
        return True

    def _unended_yaml(self) -> None:
        self._run.flag(f"line {self._yaml_line}", "a block that ends with '...'", "another line, or the end")
        self._end_yaml()

    def _end_yaml(self) -> None:
        lines, self._yaml = self._yaml or [], None
        if self._recent:
            point = self._recent[1]
            fields, is_all = _yaml_fields(lines)
            duration = fields.get("duration_ms", "")
            if _NUMBER.fullmatch(duration):
                point.seconds = float(duration) / 1000
            message = fields.get("message") or fields.get("error")
            if message and message not in point.message:
                point.message.append(message)
            if not is_all:
                point.diagnostic = "\n".join(lines).strip("\n")

    # --- levels ---

    def _document(self, number: int, level: int) -> _Document:
        """The document of this level, opened if there is none."""
        while len(self._levels) <= level:
            name = self._announced.pop(len(self._levels) - 1, "")
            self._levels.append(_Document(number, name=name))
        return self._levels[level]

    def _close_down_to(self, level: int) -> None:
        """Close what lies more than one level below `level`: nothing can come to it any more."""
        self._abandon(level + 2)

    def _abandon(self, level: int) -> None:
        """Close documents from `level` on, for which no point of their own came."""
        while len(self._levels) > max(level, 1):
            inner = self._levels.pop()
            if inner.owner is not None:
                self._close_braces(inner, inner.owner)
                continue
            self._end_document(inner)
            name = inner.name or "(subtest)"
            self._run.flag(f"line {inner.line}", "a test point for the subtest", f"none for {name[:200]}")
            outer = self._levels[-1]
            self._finish(outer)
            outer.last = _Point(inner.line, "error", name, message=["the subtest has no test point"])
            outer.last.children = inner.done

    def _taken_children(self, level: int) -> list[_Point]:
        """The points of the subtest that ends with a point at `level`, whose document is open."""
        self._announced.pop(level, None)
        if len(self._levels) != level + 2:
            return []
        inner = self._levels.pop()
        if inner.owner is not None:
            self._close_braces(inner, inner.owner)
            return []
        self._end_document(inner)
        return inner.done

    def _close_braces(self, inner: _Document, owner: _Point) -> None:
        if not inner.points and inner.plan is None and inner.last is None:
            owner.name += " {"  # it was no subtest
        else:
            self._end_document(inner)
            owner.children += inner.done

    def _end_document(self, document: _Document) -> None:
        """Its last point is done, and its plan kept or a row more."""
        self._finish(document)
        plan, broken = document.plan, ""
        if plan is None:
            broken = "no plan"
        elif document.points != plan:
            broken = f"planned {plan} tests, found {document.points}"
        elif missing := document.missing():
            broken = f"planned {plan} tests, found others than {missing} of these"
        if broken and not document.bailed:
            line = document.plan_line or document.line
            self._run.flag(f"line {line}", "a plan that is kept", broken)
            document.last = _Point(line, "error", "(plan)", message=[broken])
            self._finish(document)

    def _close_document(self, number: int) -> None:
        """End the outermost document; what comes from line `number` on is another one."""
        self._abandon(1)
        if self._is_tap:
            self._end_document(self._levels[0])
        self._levels = [_Document(line=number)]
        self._recent = None
        self._announced.clear()

    def _finish(self, document: _Document) -> None:
        """Its last point gets nothing more."""
        point, document.last = document.last, None
        if point is not None:
            if document is self._levels[0]:
                self._emit(point, [])
            else:
                document.done.append(point)

    # --- rows ---

    def _emit(self, point: _Point, path: list[str]) -> None:
        """The point's row and those below it; `path` are the names above it."""
        extra: dict[str, object] = {}
        if point.number is not None:
            extra["number"] = point.number
        if point.diagnostic:
            extra["diagnostic"] = point.diagnostic
        below = [*path, _bounded(point.name)]
        self._run.test(
            where=f"line {point.line}",
            test=below[0],
            subtest=_bounded(" > ".join(name.replace(" > ", " %3E ") for name in below[1:])) if path else None,
            status=point.status,
            expected=point.expected,
            duration_seconds=point.seconds,
            message="\n".join(point.message) or None,
            extra=extra,
        )
        for child in point.children:
            self._emit(child, below)


def _point(line: int, is_ok: bool, text: str) -> _Point:
    """A point from what stands behind its number."""
    point = _Point(line, "pass" if is_ok else "fail", "")
    if "#" not in text:
        point.name = _unescaped(text).strip()
        return point
    if time := _TIME.search(text):
        point.seconds = float(time[1]) / _PER_SECOND[time[2]]
        text = text[: time.start()]
    for match in _DIRECTIVE.finditer(text):
        if match["name"]:
            text = text[: match.start()] + match["front"]
            if match["name"].lower() == "skip":
                point.status = "skip"
            else:
                point.expected = "fail"
            if reason := _unescaped(match["reason"] or "").strip():
                point.message.append(reason)
            break
    point.name = _unescaped(text).strip()
    return point


def _bounded(name: str) -> str:
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[: _MAX_NAME - 13]}…{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _yaml_fields(lines: Iterable[str]) -> tuple[dict[str, str], bool]:
    """`duration_ms`, `message` and `error` of a block, and whether it holds nothing else."""
    fields: dict[str, list[str]] = {}
    block: list[str] | None = None
    is_all = True
    for line in lines:
        if line.startswith(" ") or not line:
            if block is not None:
                block.append(line.strip() if not block else line.removeprefix("  "))
            elif line:
                is_all = False
            continue
        key, colon, value = line.partition(":")
        value = value.strip()
        block = None
        if colon and key in ("duration_ms", "message", "error") and key not in fields:
            fields[key] = [] if value[:1] in ("|", ">") else [_unquoted(value)]
            if value[:1] in ("|", ">"):
                block = fields[key]
        else:
            is_all = False
    texts = {key: "\n".join(parts).strip() for key, parts in fields.items()}
    both = bool(texts.get("message") and texts.get("error"))
    return texts, is_all and not both and ("duration_ms" not in texts or bool(_NUMBER.fullmatch(texts["duration_ms"])))


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\n", "\n")
    return value


FORMAT = Format(
    id="tap",
    title="Test Anything Protocol (TAP)",
    made_by="node --test --test-reporter=tap > FILE, or prove's tests, pytest --tap-stream, bats --formatter tap",
    example="TAP version 14\n1..2\nok 1 - adds numbers\nnot ok 2 - subtracts numbers\n",
    claims=claims,
    read=read,
)
