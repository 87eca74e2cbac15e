"""Reads the pickle of a PyTorch file as data: a few opcodes, no object is made and nothing is called.

A pickle is a program for a small stack machine, and the machine of the standard library may import and call anything.
This one knows the opcodes with which a dictionary of tensors is written, and a handful of names. Whatever else a file
asks for is refused by its name, before it could have any effect.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import prod
from mmap import mmap
from typing import Any, NoReturn

from jinyi.errors import FolderError, shorten

Stream = BytesIO | mmap
STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_ORDERED, _UTILS = ("collections", "OrderedDict"), "torch._utils"
# What a name does to the arguments that follow it: how many it takes at least.
_CALLS = {
    _ORDERED: 0,
    (_UTILS, "_rebuild_tensor"): 4,
    (_UTILS, "_rebuild_tensor_v2"): 4,
    (_UTILS, "_rebuild_parameter"): 1,
    (_UTILS, "_rebuild_parameter_with_state"): 1,
}
_CONSTANTS = frozenset(
    (
        *(
            "BININT",
            "BININT1",
            "BININT2",
            "LONG1",
            "BINFLOAT",
            "BINUNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE8",
        ),
        *("BINSTRING", "SHORT_BINSTRING"),  # texts as Python 2 wrote them
    )
)
_LITERALS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_DIMENSIONS = 16
_NEWEST_PROTOCOL = 5


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file: its key, type in the words of safetensors (`F16`) and length in numbers."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a view of a storage: first number, shape and strides, all counted in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A module's name that the pickle mentions; never looked up."""

    module: str
    name: str


def read_pickle(stream: Stream, where: str, storages: dict[str, Storage] | None = None) -> Any:
    """Read one pickle; the stream then stands behind it.

    Args:
        stream: bytes, or a memory map, so that a damaged length cannot ask for memory.
        where: the file, for messages.
        storages: takes up every storage that the pickle mentions, by its key.

    Returns:
        dicts, lists, tuples, texts, numbers, None and `StoredTensor`s. Attributes that were put on a dict (the
        versions of a state dict's modules) are left out.

    Raises:
        FolderError: the pickle is damaged, or it holds anything but tensors in plain containers.
    """
    machine = _Machine(where, {} if storages is None else storages)
    try:
        for opcode, argument, position in pickletools.genops(stream):  # type: ignore[arg-type]
            machine.position = position or 0
            machine.step(opcode.name, argument)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        if isinstance(error, FolderError):
            raise
        raise _damaged(where, machine.position, error) from error
    return machine.result()


def _damaged(where: str, position: int, reason: object) -> FolderError:
    return FolderError(
        where=where,
        found=f"a pickle that breaks off or makes no sense at its byte {position} ({shorten(str(reason), 80)})",
        expected="a file written by torch.save",
        fix="The file is damaged or was copied only in part: copy or download it again.",
    )


class _Machine:
    def __init__(self, where: str, storages: dict[str, Storage]) -> None:
        self.where = where
        self.storages = storages
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks set aside by MARK
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.below:
            raise _damaged(self.where, self.position, f"{len(self.stack)} values at the end")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _LITERALS:
            stack.append(_LITERALS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self.take(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, member = self.take(2) if name == "STACK_GLOBAL" else argument.split(" ", 1)
            stack.append(self.name(module, member))
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "PROTO" and argument > _NEWEST_PROTOCOL:
            self.refuse(f"pickle protocol {argument}")
        elif name not in ("PROTO", "FRAME", "STOP"):
            self.refuse(f"the opcode {name}")

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("too few values on the stack")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of_marked(self) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                self.refuse(f"a dictionary with keys of type {type(key).__name__}")
            target[key] = value

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {type(self.stack[-1]).__name__} in place of a {kind.__name__}")
        return self.stack[-1]

    def name(self, module: Any, member: Any) -> _Name:
        if not (isinstance(module, str) and isinstance(member, str)):
            raise ValueError("a name that is no text")
        if (module, member) not in _CALLS and not (module == "torch" and member in STORAGES):
            self.refuse(shorten(f"{module}.{member}", 100).strip("'"))
        return _Name(module, member)

    def reduce(self) -> None:
        called, arguments = self.take(2)
        key = (called.module, called.name) if isinstance(called, _Name) else None
        if key not in _CALLS or not isinstance(arguments, tuple) or len(arguments) < _CALLS[key]:
            raise ValueError("a call of something that cannot be called")
        if key == _ORDERED:
            self.stack.append({})
            for pair in arguments[0] if arguments else ():
                self.set_items(list(pair))
        elif "tensor" in key[1]:
            if any(arguments[6:]):  # the stored numbers are not those of the tensor
                self.refuse("a tensor that is negated or conjugated when it is read")
            self.stack.append(self.tensor(*arguments[:4]))
        else:  # a parameter is its tensor; whether it is trained does not matter here
            if not isinstance(arguments[0], StoredTensor):
                raise ValueError("a parameter without a tensor")
            self.stack.append(arguments[0])

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
        numbers = [offset, *shape, *strides]
        sound = isinstance(storage, Storage) and len(shape) == len(strides) <= _MOST_DIMENSIONS
        if not sound or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor without a sound storage, shape and strides")
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if prod(shape) and (last >= storage.size or prod(shape) > storage.size):
            raise ValueError(f"a tensor of {prod(shape)} numbers beyond its storage of {storage.size}")
        return StoredTensor(storage, offset, tuple(shape), tuple(strides))

    def persistent(self) -> None:
        (entry,) = self.take(1)
        if not isinstance(entry, tuple) or len(entry) < 5 or entry[0] != "storage":
            raise ValueError("a reference to something that is no storage")
        kind, key, size = entry[1], entry[2], entry[4]
        if not isinstance(kind, _Name) or kind.module != "torch":
            raise ValueError("a storage without a type")
        if entry[5:] not in ((), (None,)):
            self.refuse("a view of a storage, as PyTorch before 0.4 wrote it")
        if not isinstance(key, str) or type(size) is not int or size < 0:
            raise ValueError("a storage without key and size")
        storage = Storage(key, STORAGES[kind.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("one storage of two types or sizes")
        self.stack.append(storage)

    def build(self) -> None:
        self.take(1)
        self.top(dict)

    def refuse(self, what: str) -> NoReturn:
        raise FolderError(
            where=self.where,
            found=f"a pickle that asks for {what}",
            expected="a dictionary of tensors (a state dict) and nothing else",
            fix="jinyi executes nothing from a pickle. Take the safetensors version of the model, or, if you trust the "
            "file, write its weights with torch.save(model.state_dict(), file).",
        )


_STEPS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_of_marked,
    "APPEND": lambda machine: machine.append(machine.take(1)),
    "APPENDS": lambda machine: machine.append(machine.since_mark()),
    "SETITEM": lambda machine: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
