"""Pickles of plain values, read without ever calling what they name.

A pickle is a program for a small machine of stack and memory. This machine knows the instructions that build dicts,
lists, tuples, numbers and texts. A name of a class or function is looked up in a table of stand-ins and nowhere else:
nothing is imported, and what the table does not hold is an error that names it. Instructions: Python's `pickletools`.
"""

# ruff: noqa: SLF001 - the table at the end lists the machine's own steps
from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ptycho_core.errors import ArchiveError, Problem

Arguments = tuple[object, ...]
Values = Mapping[str, object]
StandIn = Callable[[Arguments], object]
"""Gives the value that a call with some arguments stands for."""


class RefusedError(ValueError):
    """A pickle that holds something else than plain values."""


class Buildable:
    """A value that a pickle makes in two steps: a call, then its state."""

    def take_state(self, state: object) -> None:
        """Complete the value.

        Raises:
            RefusedError: the state is of another kind.
        """
        raise NotImplementedError


class _Name:
    """A class or function that a pickle names, and its stand-in."""

    def __init__(self, name: str, stand_in: StandIn) -> None:
        self.name = name
        self.stand_in = stand_in


def read_pickle(content: bytes, stand_ins: Mapping[str, StandIn], persistent: StandIn | None = None) -> object:
    """Read a pickle.

    Args:
        content: all bytes of it.
        stand_ins: by `module.name`, what a call of that name gives.
        persistent: gives what a persistent identifier stands for; None refuses them.

    Returns:
        Builtin containers, numbers and texts, and what the stand-ins gave.

    Raises:
        RefusedError: an instruction or a name that no plain value needs, or a damaged pickle.
    """
    machine = _Machine(stand_ins, persistent)
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                return machine.pop()
            machine.step(instruction.name, argument)
    except RefusedError:
        raise
    # What a damaged program does to the machine.
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError, RecursionError) as error:
        raise RefusedError(f"a damaged pickle: {str(error)[:100]}") from error
    raise RefusedError("a damaged pickle: it has no end")


def read_member(subject: str, name: str, read: Callable[[], Values]) -> Values:
    """Read a pickle out of an archive's member.

    Raises:
        ArchiveError: the pickle was refused.
    """
    try:
        return read()
    except RefusedError as error:
        expected = "plain numbers, texts, containers and arrays"
        raise ArchiveError(subject, [Problem(path=name, expected=expected, found=str(error))]) from error


class _Machine:
    def __init__(self, stand_ins: Mapping[str, StandIn], persistent: StandIn | None) -> None:
        self._stand_ins = stand_ins
        self._persistent = persistent
        self._stack: list[object] = []
        self._below: list[list[object]] = []  # what lies under each mark
        self._memory: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Carry out one instruction."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _IGNORED:
            raise RefusedError(f"the instruction {name}")

    def pop(self) -> object:
        """Take the topmost value."""
        return self._stack.pop()

    def _mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[object]:
        taken, self._stack = self._stack, self._below.pop()
        return taken

    def _tuple(self, _: object) -> None:
        taken = tuple(self._to_mark())
        self._stack.append(taken)

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("stack underflow")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _extend(self, items: Sequence[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise RefusedError(f"items for a {type(target).__name__}")
        target.extend(items)

    def _update(self, items: Sequence[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError(f"entries for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys would be hashed, and nested tuples take for ever.
            if not isinstance(key, str | int):
                raise RefusedError(f"a key that is a {type(key).__name__}")
            target[key] = value

    def _last(self, count: int) -> list[object]:
        return [self._stack.pop() for _ in range(count)][::-1]

    def _keep(self, place: object) -> None:
        self._memory[len(self._memory) if place is None else _index(place)] = self._stack[-1]

    def _recall(self, place: object) -> None:
        self._stack.append(self._memory[_index(place)])

    def _name(self, argument: object) -> None:
        module, _, name = str(argument).partition(" ")
        self._push_name(module, name)

    def _name_on_stack(self, _: object) -> None:
        module, name = self._last(2)
        self._push_name(module, name)

    def _push_name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("a name that is no text")
        full = f"{module}.{name}"
        if full not in self._stand_ins:
            raise RefusedError(f"{full[:100]!r}, which is not called")
        self._stack.append(_Name(full, self._stand_ins[full]))

    def _call(self, _: object) -> None:
        function, arguments = self._last(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise RefusedError(f"a call of a {type(function).__name__}")
        self._stack.append(function.stand_in(arguments))

    def _build(self, _: object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Buildable):
            target.take_state(state)
        # An ordered dict carries notes of its owner, which nobody needs.
        elif not isinstance(target, dict):
            raise RefusedError(f"a state for a {type(target).__name__}")

    def _identified(self, _: object) -> None:
        identifier = self._stack.pop()
        if self._persistent is None or not isinstance(identifier, tuple):
            raise RefusedError("a reference to something outside of the pickle")
        self._stack.append(self._persistent(identifier))


def _index(place: object) -> int:
    if not isinstance(place, int):
        raise RefusedError("a place that is no number")
    return place


_LITERALS = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    }
)
_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "NONE": lambda: None,
        "NEWTRUE": lambda: True,
        "NEWFALSE": lambda: False,
        "EMPTY_DICT": dict,
        "EMPTY_LIST": list,
        "EMPTY_TUPLE": tuple,
    }
)
_STEPS: Mapping[str, Callable[[_Machine, object], None]] = MappingProxyType(
    {
        "MARK": _Machine._mark,
        "TUPLE": _Machine._tuple,
        "TUPLE1": lambda machine, _: machine._tuple_of(1),
        "TUPLE2": lambda machine, _: machine._tuple_of(2),
        "TUPLE3": lambda machine, _: machine._tuple_of(3),
        "APPEND": lambda machine, _: machine._extend(machine._last(1)),
        "APPENDS": lambda machine, _: machine._extend(machine._to_mark()),
        "SETITEM": lambda machine, _: machine._update(machine._last(2)),
        "SETITEMS": lambda machine, _: machine._update(machine._to_mark()),
        "MEMOIZE": _Machine._keep,
        "BINPUT": _Machine._keep,
        "LONG_BINPUT": _Machine._keep,
        "BINGET": _Machine._recall,
        "LONG_BINGET": _Machine._recall,
        "GLOBAL": _Machine._name,
        "STACK_GLOBAL": _Machine._name_on_stack,
        "REDUCE": _Machine._call,
        "BUILD": _Machine._build,
        "BINPERSID": _Machine._identified,
    }
)


def name_of(stand_in: object) -> str:
    """Give the full name that a pickle hands on without calling it.

    Raises:
        RefusedError: it is no such name.
    """
    if not isinstance(stand_in, _Name):
        raise RefusedError(f"a {type(stand_in).__name__} in place of a name")
    return stand_in.name
