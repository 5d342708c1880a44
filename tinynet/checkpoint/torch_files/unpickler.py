"""A reader of pickles that cannot run code: a small stack machine over the opcodes that torch.save writes.

Python's own unpickler calls whatever the file names, and even with an allow-list a few bytes can make it
allocate gigabytes or crash the interpreter. This one knows no import, no attribute access and no call but the
`vocabulary`'s. Source: the opcodes are documented in Python's pickletools.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from tinynet.checkpoint.torch_files.reader import Reader
from tinynet.checkpoint.torch_files.records import brief
from tinynet.checkpoint.torch_files.vocabulary import Constructor, hashable, look_up
from tinynet.errors import CheckpointError

MAX_PICKLE_BYTES = 2**24  # ResNet-50's pickle has 45 thousand
MAX_STEPS = 400_000  # bounds time and memory; ResNet-50 needs 13 thousand
MAX_STRING_BYTES = 2**20
MAX_NAME_BYTES = 256
STOP = ord(".")


class Unpickler:
    """Reads one pickle; `persistent_load` turns its references to outside data into records."""

    def __init__(self, reader: Reader, persistent_load: Callable[[Any], Any] | None = None) -> None:
        self.reader, self.persistent_load = reader, persistent_load
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The pickled value. Raises CheckpointError."""
        try:
            return self._run()
        except CheckpointError as error:
            raise CheckpointError(f"{error} (in {self.reader.name}, before byte {self.reader.position})") from None
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{self.reader.name} is damaged before byte {self.reader.position}: {type(error).__name__}: {error}"
            ) from error

    def _run(self) -> Any:
        reader, limit = self.reader, self.reader.position + MAX_PICKLE_BYTES
        for _ in range(MAX_STEPS):
            code = reader.read(1)[0]
            if code == STOP:
                return self._only_value()
            handler = _OPCODES.get(code)
            if handler is None:
                raise CheckpointError(f"opcode {bytes([code])!r} of pickle is not one that torch writes")
            handler(self)
            if reader.position > limit:
                raise CheckpointError(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
        raise CheckpointError(f"a pickle of more than {MAX_STEPS} steps")

    def _only_value(self) -> Any:
        if self.outer_stacks or len(self.stack) != 1:
            raise CheckpointError(f"expected one value at the end of a pickle, found {len(self.stack)}")
        return self.stack[0]

    # Pieces that the opcodes share

    def _number(self, layout: str) -> int:
        return self.reader.unpack(layout)[0]

    def _sized(self, layout: str) -> bytes:
        length = self._number(layout)
        if length > MAX_STRING_BYTES:
            raise CheckpointError(f"a string of {length} bytes; at most {MAX_STRING_BYTES} are read")
        return self.reader.read(length)

    def _pop_marked(self) -> list[Any]:
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict, Counter):
            raise CheckpointError(f"expected a dictionary to fill, found {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if hashable(key) in target:
                raise CheckpointError(f"the name {brief(key)} appears twice")
            target[key] = value

    def _append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is set:
            target.update(map(hashable, items))
        elif type(target) is list:
            target.extend(items)
        else:
            raise CheckpointError(f"expected a list to fill, found {type(target).__name__}")

    # Opcodes that need more than an expression

    def mark(self) -> None:
        self.outer_stacks.append(self.stack)
        self.stack = []

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise CheckpointError("expected a name as text")
        self.stack.append(look_up(module, name))

    def read_global(self) -> None:
        module, name = (self.reader.readline(MAX_NAME_BYTES).decode() for _ in range(2))
        self.stack.append(look_up(module, name))

    def reduce(self) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if type(target) is not Constructor or type(arguments) is not tuple:
            raise CheckpointError(f"refused: a call of {type(target).__name__}, which is not on the list of safe ones")
        self.stack.append(target.build(*arguments))

    def build(self) -> None:
        """Attributes of an OrderedDict: a state_dict's `_metadata`."""
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not OrderedDict or type(state) is not dict:
            raise CheckpointError(f"refused: setting the state of {type(target).__name__}; only OrderedDict has one")
        for name, value in state.items():
            if type(name) is not str or hasattr(OrderedDict, name):
                raise CheckpointError(f"refused: replacing the attribute {brief(name)} of an OrderedDict")
            setattr(target, name, value)

    def persistent(self) -> None:
        if self.persistent_load is None:
            raise CheckpointError("refused: a reference to outside data where none is expected")
        self.stack.append(self.persistent_load(self.stack.pop()))

    def push_tuple(self, length: int) -> None:
        if length > len(self.stack):
            raise CheckpointError(f"expected {length} values for a tuple, found {len(self.stack)}")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def pop_tuple(self) -> None:
        items = self._pop_marked()
        self.stack.append(tuple(items))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def append(self) -> None:
        item = self.stack.pop()
        self._append_items([item])


_OPCODES: dict[int, Callable[[Unpickler], None]] = {
    ord(code): handler
    for code, handler in {
        "\x80": lambda self: self.reader.skip(1),  # PROTO
        "\x95": lambda self: self.reader.skip(8),  # FRAME
        "N": lambda self: self.stack.append(None),
        "\x88": lambda self: self.stack.append(True),
        "\x89": lambda self: self.stack.append(False),
        "J": lambda self: self.stack.append(self._number("<i")),  # BININT
        "K": lambda self: self.stack.append(self._number("<B")),
        "M": lambda self: self.stack.append(self._number("<H")),
        "G": lambda self: self.stack.append(self._number(">d")),  # BINFLOAT
        "\x8a": lambda self: self.stack.append(  # LONG1
            int.from_bytes(self.reader.read(self._number("<B")), "little", signed=True)
        ),
        "X": lambda self: self.stack.append(self._sized("<I").decode("utf-8", "surrogatepass")),  # BINUNICODE
        "\x8c": lambda self: self.stack.append(self._sized("<B").decode("utf-8", "surrogatepass")),
        "T": lambda self: self.stack.append(self._sized("<I").decode()),  # BINSTRING: text of Python 2
        "U": lambda self: self.stack.append(self._sized("<B").decode()),
        "B": lambda self: self.stack.append(self._sized("<I")),  # BINBYTES
        "C": lambda self: self.stack.append(self._sized("<B")),
        "]": lambda self: self.stack.append([]),
        "}": lambda self: self.stack.append({}),
        ")": lambda self: self.stack.append(()),
        "\x8f": lambda self: self.stack.append(set()),
        "(": Unpickler.mark,
        "t": Unpickler.pop_tuple,
        "\x85": lambda self: self.push_tuple(1),
        "\x86": lambda self: self.push_tuple(2),
        "\x87": lambda self: self.push_tuple(3),
        "a": Unpickler.append,
        "e": lambda self: self._append_items(self._pop_marked()),
        "\x90": lambda self: self._append_items(self._pop_marked()),  # ADDITEMS
        "s": Unpickler.set_item,
        "u": lambda self: self._set_items(self._pop_marked()),
        "q": lambda self: self.put(self._number("<B")),
        "r": lambda self: self.put(self._number("<I")),
        "\x94": lambda self: self.put(len(self.memo)),  # MEMOIZE
        "h": lambda self: self.stack.append(self.memo[self._number("<B")]),
        "j": lambda self: self.stack.append(self.memo[self._number("<I")]),
        "c": Unpickler.read_global,
        "\x93": Unpickler.stack_global,
        "R": Unpickler.reduce,
        "b": Unpickler.build,
        "Q": Unpickler.persistent,
    }.items()
}
