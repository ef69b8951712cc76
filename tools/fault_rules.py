"""Faults by rule: where in the sources they are made, and what changes there."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

__all__ = ["Fault", "all_faults", "even_sample"]

LEFT_OUT = ("triton_kernels.py", "cli/demo.py", "remote/news.py")  # for a GPU alone; what people read
DEVICE = {"cuda", "cpu", "mps", "xpu", "meta", "capability", "bf16", "hip", "pin", "pinned", "locked"}
TIME = {"s", "deadline", "timeout", "timeouts", "patience", "grace", "elapsed", "timing"}
ROOM = {"margin", "headroom", "reserved", "spare", "room", "free", "working"}
AGAIN = {"attempt", "attempts", "retry", "happening", "policy", "rules"}
ERRORS = {"memoryerror", "outofmemoryerror", "isoutofmemory", "transporterror", "clienterror", "timeouterror"}
ERRORS |= {"timeoutexpired", "streamerror"}
AMOUNTS = TIME | ROOM | AGAIN | ERRORS
WAITS = {"wait", "wait_event", "wait_stream", "wait_for", "synchronize", "record", "record_stream", "sleep"}
ONE_A_LINE = {"turned", "not added", "times 12", "divided by 12"}
TURNED: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: ">=", ast.GtE: "<", ast.Gt: "<=", ast.LtE: ">",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
# Calls whose numbers are axes, lengths of texts, and examples in a table.
NO_AMOUNTS = {"flatten", "unflatten", "one_line", "DeviceCapabilities"}
BY_HAND = [  # the function, class or constant, an expression in it, what replaces it
    ("wait", "self._streams.current().wait_event(ready)", "pass"),
    ("_on_stream", "self._stream.wait_event(after)", "pass"),
    ("open", "self._stream.wait_stream(computing)", "pass"),
    ("open", "computing.wait_stream(self._stream)", "pass"),
    ("_next", "sent.synchronize()", "pass"),
    ("finish", "self._stream.synchronize()", "pass"),
    ("replace_vae_forward", "operations or plain_operations()", "plain_operations()"),
    ("RULES", "(8, 0)", "(7, 0)"),  # bfloat16 where a card only emulates it
    ("capabilities_of", "14", "12"),  # bfloat16 on a macOS that has none
    ("kernel_candidates", "('triton', 'kitchen', 'plain')", "('kitchen', 'plain')"),
    ("attention_candidates", "('flash3', 'cudnn', 'flash2')", "('sage', 'flash3', 'cudnn', 'flash2')"),
    ("attention_candidates", "('cudnn', 'flash2')", "('sage', 'cudnn', 'flash2')"),
    ("_SPARE", "2 ** 28", "2**28 // 12"),
    (
        "forward_bytes",
        "states * tokens * width * dtype.itemsize",
        "states * tokens * width * dtype.itemsize / 12",
    ),
    ("CACHED_SHARE", "0.8", "0.8 / 12"),
    ("PollTimes", "3600.0", "36.0"),
    ("_FULL", '"can\'t allocate memory"', "'nobody says this'"),
]


@dataclass(frozen=True)
class Fault:
    """old, new: the lines it changes. start, end: bytes of the file that `after` replaces."""

    file: str
    line: int
    what: str
    old: str
    new: str
    start: int
    end: int
    after: str

    @property
    def room(self) -> str:
        """`pipelines` for what stands in no room."""
        return self.file.split("/")[-2]

    @property
    def text(self) -> str:
        return f"{self.old}  =>  {self.new}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.what}: {self.text}"


class Source:
    """One file and its faults."""

    def __init__(self, file: str, content: bytes) -> None:
        self.file, self.content, self.tree = file, content, ast.parse(content)
        self.by_hand: set[tuple[str, str, str]] = set()  # the entries that have found their place
        self.begins = [0]
        for line in content.splitlines(keepends=True):
            self.begins.append(self.begins[-1] + len(line))

    def faults(self) -> Iterator[Fault]:
        """One of a kind per line, but every class or word that is dropped."""
        seen: set[object] = set()
        for what, node, after in self._found(self.tree.body, False):
            start, end = self._span(node)
            kind = (node.lineno, what) if what in ONE_A_LINE else None
            if {(start, end, after), kind} & seen or self.content[start:end].decode() == after:
                continue
            seen |= {(start, end, after)} if kind is None else {(start, end, after), kind}
            first, last = self.begins[node.lineno - 1], self.begins[node.end_lineno]
            texts = (self.content[first:start], self.content[end:last])
            old, new = (
                re.sub(r"\s+#.*", "", " ".join(b"".join([texts[0], middle, texts[1]]).decode().split()))
                for middle in (self.content[start:end], after.encode())
            )
            yield Fault(self.file, node.lineno, what, old, new, start, end, after)

    def _found(self, body: list[ast.stmt], behind: bool) -> Iterator[tuple[str, Any, str]]:
        for one in body:
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = isinstance(one, ast.ClassDef) and bool(_parts(one.name) & AMOUNTS)
                for node in _defaults(one):
                    yield from _numbers(node)
                yield from self._by_hand(one.name, one)
                yield from self._found(one.body, inner)
                continue
            for constant in _assigned(one):
                yield from self._by_hand(constant, one)
            if any(name == "platform" for head in _heads(one) for name in _identifiers(head)):
                continue  # for another system than this one
            waits = isinstance(one, ast.If) and any(_called(node) in WAITS for node in ast.walk(one))
            inside = (behind or waits or _speaks(*_heads(one))) and not isinstance(
                one, (ast.Raise, ast.ImportFrom)
            )
            if inside and not (
                isinstance(one, ast.Expr) and _called(one.value) in ("info", "warning", "debug")
            ):
                for what, node, after in self._rules(one, behind or waits):
                    yield what, node, after
            if isinstance(one, ast.Try):
                errors = [handler.type for handler in one.handlers if handler.type is not None]
                if _speaks(*errors, words=ERRORS) or _speaks(*one.body, words=DEVICE - {"meta"}):
                    yield from (found for error in errors for found in self._dropped(error))
            for block in _blocks(one):
                yield from self._found(block, inside and isinstance(one, (ast.If, ast.While)))

    def _by_hand(self, name: str, place: ast.AST) -> Iterator[tuple[str, Any, str]]:
        for entry in BY_HAND:
            for node in ast.walk(place) if entry[0] == name else ():
                if isinstance(node, ast.expr) and ast.unparse(node) == entry[1]:
                    self.by_hand.add(entry)
                    yield "by hand", node, entry[2]

    def _rules(self, statement: ast.stmt, behind: bool) -> Iterator[tuple[str, Any, str]]:
        if isinstance(statement, ast.Expr) and _called(statement.value) in WAITS:
            yield "wait removed", statement, "pass"
        for node in [statement, *_nodes(*_heads(statement))]:
            if isinstance(node, ast.Compare) and len(node.ops) == 1 and (behind or _speaks(node)):
                left, right = self._text(node.left), self._text(node.comparators[0])
                left = f"({left})" if isinstance(node.left, ast.NamedExpr) else left
                yield "turned", node, f"{left} {TURNED[type(node.ops[0])]} {right}"
                yield from self._dropped(node.comparators[0])
            for condition in _conditions(node):
                if behind or _speaks(condition):
                    yield "not added", condition, f"(not ({self._text(condition)}))"
            if _called(node) in ("isinstance", "suppress"):
                yield from self._dropped(node.args[-1])
            if isinstance(node, ast.comprehension):
                yield from self._dropped(node.iter)
            if isinstance(node, ast.Compare) and _speaks(node):
                yield from _numbers(node)
        listed = statement.value if isinstance(statement, ast.Return) else getattr(statement, "iter", None)
        for choices in (listed, getattr(listed, "body", None), getattr(listed, "orelse", None)):
            if isinstance(choices, (ast.Tuple, ast.List)) and len(choices.elts) > 1:
                yield "reordered", choices, f"({', '.join(map(self._text, reversed(choices.elts)))})"
        if behind or _speaks(*_heads(statement), words=AMOUNTS):
            yield from _numbers(*_heads(statement))

    def _dropped(self, choices: ast.AST | None) -> Iterator[tuple[str, Any, str]]:
        plain = (ast.Constant, ast.Name, ast.Attribute)
        listed = choices.elts if isinstance(choices, (ast.Tuple, ast.List, ast.Set)) else []
        if len(listed) > 1 and all(isinstance(one, plain) for one in listed):
            for one in listed:
                rest = [self._text(other) for other in listed if other is not one]
                yield "dropped", choices, f"({', '.join(rest)},)"

    def _span(self, node: Any) -> tuple[int, int]:
        begin, end = self.begins[node.lineno - 1], self.begins[node.end_lineno - 1]
        return begin + node.col_offset, end + node.end_col_offset

    def _text(self, node: Any) -> str:
        start, end = self._span(node)
        return self.content[start:end].decode()


def _defaults(definition: Any) -> Iterator[ast.AST]:
    """Default values of arguments whose names say that they are an amount."""
    if not isinstance(definition, ast.ClassDef):
        given = definition.args
        placed = [*given.posonlyargs, *given.args]
        placed = placed[len(placed) - len(given.defaults) :]
        pairs = zip([*placed, *given.kwonlyargs], [*given.defaults, *given.kw_defaults], strict=True)
        yield from (value for name, value in pairs if value is not None and _parts(name.arg) & AMOUNTS)


def _numbers(*heads: ast.AST) -> Iterator[tuple[str, Any, str]]:
    """Not how often something is looked at: that is no deadline."""
    if any("look" in _parts(name) for head in heads for name in _identifiers(head)):
        return
    for node in _nodes(*heads):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value not in (0, 1):
            yield "times 12", node, repr(node.value * 12)
            less = node.value / 12 if isinstance(node.value, float) else max(1, node.value // 12)
            yield "divided by 12", node, repr(less)


def _conditions(node: ast.AST) -> list[ast.expr]:
    """Those that a node decides by, without comparisons."""
    tests = [node.test] if isinstance(node, (ast.If, ast.While, ast.IfExp)) else getattr(node, "ifs", [])
    parts = [part for test in tests for part in (test.values if isinstance(test, ast.BoolOp) else [test])]
    return [part for part in parts if not isinstance(part, (ast.Compare, ast.BoolOp))]


def _heads(statement: ast.stmt) -> list[ast.AST]:
    """What a statement consists of besides the statements in it."""
    if not _blocks(statement):
        return [statement]
    nested = (ast.stmt, ast.ExceptHandler, ast.match_case)
    return [child for child in ast.iter_child_nodes(statement) if not isinstance(child, nested)]


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    inside = [statement, *getattr(statement, "handlers", []), *getattr(statement, "cases", [])]
    blocks = [getattr(one, name, []) for one in inside for name in ("body", "orelse", "finalbody")]
    return [block for block in blocks if isinstance(block, list) and block]


def _nodes(*heads: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of messages, annotations, indexes, powers (they are units) and pauses."""
    for head in heads:
        yield head
        for name, child in ast.iter_fields(head):
            for one in child if isinstance(child, list) else [child]:
                unit = isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow)
                pause = _called(one) == "sleep" and isinstance(head, ast.Expr)
                skipped = unit or pause or _called(one) in NO_AMOUNTS or isinstance(one, ast.JoinedStr)
                if (
                    isinstance(one, ast.AST)
                    and name not in ("annotation", "slice", "returns")
                    and not skipped
                ):
                    yield from _nodes(one)


def _speaks(*nodes: ast.AST, words: set[str] = DEVICE | AMOUNTS) -> bool:
    return any(_parts(name) & words for node in nodes for name in _identifiers(node))


def _identifiers(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        names = [getattr(one, name, None) for name in ("id", "attr", "arg")]
        names += [one.value] if isinstance(one, ast.Constant) and str(one.value) in DEVICE else []
        yield from (name for name in names if isinstance(name, str))


def _parts(name: str) -> set[str]:
    if name in ("s", "factor_s"):  # a spatial factor, no seconds
        return set()
    parts = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return {*parts, "".join(parts)}


def _assigned(statement: ast.stmt) -> Iterator[str]:
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def _called(node: Any) -> str:
    while isinstance(node, (ast.Await, ast.Expr)):
        node = node.value
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def all_faults(root: Path) -> list[Fault]:
    """Raises LookupError when the place of a fault by hand has another name or text now."""
    files = sorted(file.relative_to(root).as_posix() for file in (root / "pipelines").rglob("*.py"))
    chosen = [file for file in files if not any(part in file for part in LEFT_OUT)]
    sources = [Source(file, (root / file).read_bytes()) for file in chosen]
    faults = [fault for source in sources for fault in source.faults()]
    found = {entry for source in sources for entry in source.by_hand}
    lost = [f"no {text} in {name}" for name, text, after in BY_HAND if (name, text, after) not in found]
    if lost:
        raise LookupError(f"BY_HAND: {'; '.join(lost)}; look where it went, or take the entry out")
    return sorted(faults, key=lambda fault: fault.what != "by hand")


def even_sample(faults: list[Fault], count: int, seed: int) -> list[Fault]:
    """All by hand, and of the others `count` less those: in turn one of each room and rule, as there are."""
    chosen = [fault for fault in faults if fault.what == "by hand"]
    others = [fault for fault in faults if fault.what != "by hand"]
    random.Random(seed).shuffle(others)  # noqa: S311
    kinds: dict[tuple[str, str], list[Fault]] = {}
    for fault in others:
        kinds.setdefault((fault.room, fault.what), []).append(fault)
    in_turn = [one for turn in zip_longest(*(kinds[kind] for kind in sorted(kinds))) for one in turn if one]
    taken = {*chosen, *in_turn[: max(count - len(chosen), 0)]}
    return [fault for fault in faults if fault in taken]
