"""Pickles of weights, read without calling anything that they name.

A pickle is a program for a machine with a stack. The machine here follows the
instructions that ``torch.save`` writes. What a pickle names is looked up in a table,
and what it calls are functions of ours, which return plain values: no module, class or
function is ever found by its name, whatever the process allows torch.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sktransfer._networks.weights.formats.parts import DAMAGED, RefusedError

# A checkpoint of 20,000 tensors takes 800,000. Time and memory follow from this.
MOST_STEPS = 1_000_000

# Containers that are begun inside each other.
MOST_MARKS = 1_000

# Characters of the name of a module or class.
MOST_NAME = 300

# struct's forms of instructions that are followed by a number.
NUMBERS = {
    pickle.BININT: struct.Struct("<i"),
    pickle.BININT1: struct.Struct("<B"),
    pickle.BININT2: struct.Struct("<H"),
    pickle.BINFLOAT: struct.Struct(">d"),
}
LENGTHS = {
    pickle.BINGET: struct.Struct("<B"),
    pickle.BINPUT: struct.Struct("<B"),
    pickle.LONG_BINGET: struct.Struct("<I"),
    pickle.LONG_BINPUT: struct.Struct("<I"),
    pickle.BINUNICODE: struct.Struct("<I"),
    pickle.SHORT_BINSTRING: struct.Struct("<B"),
    pickle.LONG1: struct.Struct("<B"),
    pickle.PROTO: struct.Struct("<B"),
}
CONSTANTS: dict[bytes, Callable[[], Any]] = {
    pickle.NONE: lambda: None,
    pickle.NEWTRUE: lambda: True,
    pickle.NEWFALSE: lambda: False,
    pickle.EMPTY_TUPLE: tuple,
    pickle.EMPTY_LIST: list,
    pickle.EMPTY_DICT: dict,
    pickle.EMPTY_SET: lambda: None,
}


class Call(NamedTuple):
    """What a name stands for that a pickle may call: a function of ours."""

    function: Callable[..., Any]


def read_pickle(
    content: bytes | bytearray,
    start: int,
    names: Mapping[str, Any],
    find_storage: Callable[[Any], Any],
) -> tuple[Any, int]:
    """Read one pickle.

    Parameters
    ----------
    content : bytes or bytearray
        Holds it.

    start : int
        Where it begins.

    names : mapping of str to object
        What the names in it stand for, such as ``"torch.float32"``.

    find_storage : callable
        Returns what a persistent id stands for.

    Returns
    -------
    object
        Of dicts, lists, tuples, strings, numbers, None, and what `names` and
        `find_storage` give. Entries of dicts whose keys are no strings are left out.

    int
        Where it ends in `content`.

    Raises
    ------
    RefusedError
        If it names something else, or takes too many steps.
    Exception
        Of any other kind, if it is no pickle.
    """
    machine = _Machine(content, start, names, find_storage)
    for _ in range(MOST_STEPS):
        code = bytes(machine.take(1))
        if code == pickle.STOP:
            return machine.stack.pop(), machine.position
        machine.follow(code)
    raise RefusedError(
        f"its pickle takes more than {MOST_STEPS:,} steps; save the state_dict() only."
    )


class _Machine:
    """The stack, the marks in it and the memory of a pickle that is being read."""

    def __init__(
        self,
        content: bytes | bytearray,
        start: int,
        names: Mapping[str, Any],
        find_storage: Callable[[Any], Any],
    ) -> None:
        self.content, self.position = content, start
        self.names, self.find_storage = names, find_storage
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memory: dict[int, Any] = {}
        self.actions: dict[bytes, Callable[[], None]] = {
            pickle.GLOBAL: self.find_name,
            pickle.REDUCE: self.call,
            pickle.NEWOBJ: self.call,
            pickle.BUILD: self.build,
            pickle.MARK: self.mark,
            pickle.APPEND: lambda: self.append([self.stack.pop()]),
            pickle.APPENDS: lambda: self.append(self.take_marked()),
            pickle.SETITEM: lambda: self.set_items(self.take_last(2)),
            pickle.SETITEMS: lambda: self.set_items(self.take_marked()),
            pickle.TUPLE: lambda: self.push(tuple(self.take_marked())),
            pickle.TUPLE1: lambda: self.push(tuple(self.take_last(1))),
            pickle.TUPLE2: lambda: self.push(tuple(self.take_last(2))),
            pickle.TUPLE3: lambda: self.push(tuple(self.take_last(3))),
            pickle.BINPERSID: self.find_id,
        }

    def take(self, n: int) -> bytes | bytearray:
        """Take the next bytes of the program."""
        taken = self.content[self.position : self.position + n]
        if len(taken) < n:
            raise RefusedError(DAMAGED)
        self.position += n
        return taken

    def push(self, thing: Any) -> None:
        """Put a thing onto the stack, which is another one after a mark."""
        self.stack.append(thing)

    def follow(self, code: bytes) -> None:
        """Follow one instruction."""
        if code in self.actions:
            self.actions[code]()
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code]())
        elif code in NUMBERS:
            form = NUMBERS[code]
            self.stack.append(form.unpack(self.take(form.size))[0])
        elif code in LENGTHS:
            form = LENGTHS[code]
            self.follow_length(code, form.unpack(self.take(form.size))[0])
        else:
            raise RefusedError(DAMAGED)

    def follow_length(self, code: bytes, n: int) -> None:
        """Follow an instruction with a length, or with a place in the memory."""
        if code in (pickle.BINGET, pickle.LONG_BINGET):
            self.stack.append(self.memory[n])
        elif code in (pickle.BINPUT, pickle.LONG_BINPUT):
            # Python counts them; far ones could be chosen to make the dict slow.
            if n > MOST_STEPS:
                raise RefusedError(DAMAGED)
            self.memory[n] = self.stack[-1]
        elif code in (pickle.BINUNICODE, pickle.SHORT_BINSTRING):
            self.stack.append(self.take(n).decode())
        elif code == pickle.LONG1:
            self.stack.append(int.from_bytes(self.take(n), "little", signed=True))

    def find_name(self) -> None:
        """Put what a name stands for onto the stack."""
        parts = []
        for _ in range(2):
            end = self.content.find(b"\n", self.position, self.position + MOST_NAME)
            if end < 0:
                raise RefusedError(DAMAGED)
            parts.append(self.take(end - self.position).decode())
            self.take(1)
        # Protocol 2 is that of Python 2, whose name it has.
        module = parts[0].replace("__builtin__", "builtins")
        name = f"{module}.{parts[1]}"
        if name not in self.names:
            raise RefusedError(
                f"beside tensors it holds {name}, and reading that would run code. "
                "Load the file once where it was trained, and save the state_dict() "
                "only."
            )
        self.stack.append(self.names[name])

    def call(self) -> None:
        """Replace a function of ours, and its arguments, by what it returns."""
        called, arguments = self.take_last(2)
        if not isinstance(called, Call) or not isinstance(arguments, tuple):
            raise RefusedError(DAMAGED)
        self.stack.append(called.function(*arguments))

    def build(self) -> None:
        """Drop the attributes of an object: nothing that is read has any."""
        thing, _ = self.take_last(2)
        self.stack.append(thing)

    def mark(self) -> None:
        """Remember how much is on the stack."""
        if len(self.below) == MOST_MARKS:
            raise RefusedError(DAMAGED)
        self.below.append(self.stack)
        self.stack = []

    def take_marked(self) -> list[Any]:
        """Take what came onto the stack since the last mark."""
        marked, self.stack = self.stack, self.below.pop()
        return marked

    def take_last(self, n: int) -> list[Any]:
        """Take the last things from the stack."""
        if len(self.stack) < n:
            raise RefusedError(DAMAGED)
        last = self.stack[-n:]
        del self.stack[-n:]
        return last

    def append(self, items: list[Any]) -> None:
        """Append to the list that is last on the stack."""
        if type(self.stack[-1]) is not list:
            raise RefusedError(DAMAGED)
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values, in turn, into the dict that is last on the stack."""
        target = self.stack[-1]
        if type(target) is not dict:
            raise RefusedError(DAMAGED)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys name no tensor. Integers could all have the same hash, and to
            # hash a tuple of tuples can take forever.
            if type(key) is str:
                target[key] = value

    def find_id(self) -> None:
        """Put the storage with an id onto the stack."""
        self.stack.append(self.find_storage(self.stack.pop()))
