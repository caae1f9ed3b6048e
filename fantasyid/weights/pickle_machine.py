"""Runs a pickle step by step, with bounds, and without anything that could run code or hang.

Python's own unpickler obeys 127 bytes that ask for the hash of a tuple nested seventy deep: it
would never end, and lets nothing else run meanwhile. Here each step costs what its bytes cost:
keys are words or numbers, integers are short, steps and bytes handed to functions are counted. A
name in the file stands for a function or class of ours that only keeps what it is given.
"""

from __future__ import annotations

import codecs
import io
import pickletools
from collections.abc import Callable
from functools import partialmethod
from typing import Any

MAX_STEPS = 1_000_000
MAX_BYTES = 512 * 1024 * 1024
MAX_INTEGER_BITS = 128
VALUE_BYTES = 64  # what an entry of a container costs about
_STEPS = {step.code: step for step in pickletools.opcodes}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set,
}  # fmt: skip
_REFUSED = {"EXT1", "EXT2", "EXT4", "PERSID"}


class RefusedPickle(ValueError):
    """The pickle asks for something that a file of weights has no need of."""


class Function:
    """Stands for a function: calls ours."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Object:
    """Stands for an object of which only the attributes count."""

    __slots__ = ("state",)

    def set_state(self, state: Any) -> None:
        """Take attributes, from a dict or a pair with a dict in it.

        Raises:
            RefusedPickle: They come in another form.
        """
        parts = [p for p in (state if isinstance(state, tuple) else (state,)) if p is not None]
        if not all(isinstance(part, dict) for part in parts):
            raise RefusedPickle(f"{type(self).__name__} has a state of unknown form")
        self.state = {key: value for part in parts for key, value in part.items()}


class Table(dict[Any, Any]):
    """Stands for an ordered dict, whose attributes do not count."""

    def set_state(self, _state: Any) -> None:
        """Take attributes, which nobody reads."""


def run_pickle(
    file: io.BytesIO,
    find: Callable[[str, str], Any],
    load_persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Run a pickle up to its end; what follows in the file stays unread.

    Args:
        file: In memory, so that a false length asks for nothing.
        find: What stands for a module's name; raises `RefusedPickle` for one that is not known.
        load_persistent: What stands for a persistent id; without it there may be none.

    Raises:
        RefusedPickle: It asks for anything beyond plain values and known names.
        ValueError, LookupError, TypeError: It is damaged.
    """
    return _Machine(file, find, load_persistent).run()


class _Machine:
    def __init__(self, file: io.BytesIO, find: Any, load_persistent: Any) -> None:
        self.file, self.find, self.load_persistent = file, find, load_persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # what lies under each mark
        self.memo: dict[int, Any] = {}
        self.bytes_left = MAX_BYTES

    def run(self) -> Any:
        for number in range(MAX_STEPS):
            step = _STEPS.get(self.file.read(1).decode("latin-1"))
            if step is None:
                raise ValueError(f"no pickle step at byte {self.file.tell()}")
            argument = self.argument(step)
            if step.name == "STOP":
                return self.stack.pop()
            if step.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[step.name]())
            elif act := getattr(self, f"do_{step.name.lower()}", None):
                act(argument) if step.arg else act()
            elif step.arg and step.name not in _REFUSED:
                self.stack.append(argument)
            else:
                raise RefusedPickle(f"it holds the step {step.name} at {number}")
        raise RefusedPickle("it has more steps than arrays need")

    def argument(self, step: Any) -> Any:
        if step.name == "STRING":  # pickletools expects ASCII, Python 2 wrote bytes
            word = self.file.readline().strip()
            if len(word) < 2 or word[:1] != word[-1:] or word[:1] not in b"'\"":
                raise ValueError("a word has no quotes")
            return codecs.escape_decode(word[1:-1])[0].decode("latin-1")  # type: ignore[arg-type]
        found = step.arg.reader(self.file) if step.arg is not None else None
        if isinstance(found, int) and found.bit_length() > MAX_INTEGER_BITS:
            raise RefusedPickle(f"it has an integer of {found.bit_length()} bits")
        return found

    def spend(self, values: Any) -> None:
        """Count what a function is given; what is counted cannot be asked for again and again."""
        for value in values if isinstance(values, tuple) else (values,):
            each = 1 if isinstance(value, str | bytes | bytearray) else VALUE_BYTES
            self.bytes_left -= VALUE_BYTES + each * (len(value) if hasattr(value, "__len__") else 0)
        if self.bytes_left < 0:
            raise RefusedPickle("it makes more than a file of weights holds")

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    do_pop_mark = marked

    def do_proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"a pickle of protocol {version}")

    def do_frame(self, _length: int) -> None:
        pass

    def do_mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def do_pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def do_dup(self) -> None:
        self.stack.append(self.stack[-1])

    def do_list(self) -> None:
        items = self.marked()
        self.stack.append(items)

    def do_tuple(self) -> None:
        items = self.marked()
        self.stack.append(tuple(items))

    def _tuple_of(self, length: int) -> None:
        if len(self.stack) < length:
            raise ValueError("a tuple of more values than there are")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    do_tuple1 = partialmethod(_tuple_of, 1)
    do_tuple2 = partialmethod(_tuple_of, 2)
    do_tuple3 = partialmethod(_tuple_of, 3)

    def do_dict(self) -> None:
        items = self.marked()
        self.stack.append({})
        self._set(items)

    def do_append(self) -> None:
        item = self.stack.pop()
        self._add(list, [item])

    def do_appends(self) -> None:
        self._add(list, self.marked())

    def do_additems(self) -> None:
        self._add(set, self.marked())

    def do_frozenset(self) -> None:
        items = self.marked()
        self.stack.append(set())
        self._add(set, items)

    def _add(self, kind: type, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise RefusedPickle(f"it adds entries to a {type(target).__name__}")
        if kind is set:
            target.update(map(_key, items))
        else:
            target.extend(items)

    def do_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def do_setitems(self) -> None:
        self._set(self.marked())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedPickle(f"it sets entries of a {type(target).__name__}")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def do_memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_binput = do_long_binput = do_put
    do_binget = do_long_binget = do_get

    def do_global(self, name: str) -> None:
        self.stack.append(self.find(*name.split(" ", 1)))

    def do_inst(self, name: str) -> None:
        self.find(*name.split(" ", 1))  # names what it would call
        raise RefusedPickle("it holds the step INST")

    def do_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedPickle("it asks for a name that is no word")
        self.stack.append(self.find(module, name))

    def do_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise RefusedPickle(
                f"it calls a {getattr(function, '__name__', type(function).__name__)}"
            )
        self.spend(arguments)
        self.stack.append(function.call(*arguments))

    def do_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, type) or not issubclass(kind, Object) or arguments != ():
            raise RefusedPickle("it makes an object of an unknown class")
        self.stack.append(kind())

    def do_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], type) or not hasattr(self.stack[-1], "set_state"):
            raise RefusedPickle("it sets the attributes of something that has none")
        self.spend(state)
        self.stack[-1].set_state(state)

    def do_binpersid(self) -> None:
        if self.load_persistent is None:
            raise RefusedPickle("it holds the step BINPERSID")
        self.stack.append(self.load_persistent(self.stack.pop()))


def _key(value: Any) -> Any:
    """A key whose hash costs what it is long, and that no other key was made to share."""
    if type(value) not in (str, bytes) and (type(value) is not int or value.bit_length() > 60):
        raise RefusedPickle(
            f"it has a key that is a {type(value).__name__}: its keys are not words"
        )
    return value
