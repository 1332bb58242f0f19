"""What the instructions of a pickle would cost, before they are followed.

That a pickle runs no code is its readers' word; this is about memory and time. Refused are names whose calls
take any amount of memory, places in the memo that a reader would make room for, and tuples in tuples, whose
hash takes twice as long with each.
"""

import pickletools
from collections.abc import Iterable
from typing import BinaryIO

# Of as many bytes as the file says; of twice as many, again and again.
GROWS = ("bytearray", "_codecs encode")
MAX_DEPTH = 16
MAX_MEMO = 1 << 24
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_KEEPS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GIVES = ("GET", "BINGET", "LONG_BINGET")
_MARK = -1  # on the stack of depths, as a pickle's own mark


def check_pickle(file: BinaryIO, *, refused: Iterable[str] = GROWS) -> None:
    """Follows one pickle without making anything; the file then stands behind it. Raises ValueError."""
    names = tuple(refused)
    depths = _Depths()
    for opcode, argument, _ in pickletools.genops(file):
        text = argument if isinstance(argument, str) else ""
        if any(text.endswith(name) for name in names) or (text == "encode" and "_codecs encode" in names):
            raise ValueError(f"it names '{text}', which takes any amount of memory")
        depths.follow(opcode, argument)


class _Depths:
    """The stack of an unpickler, of which only is known how deep tuples lie in each other."""

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.memo: dict[int, int] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        if opcode.name in _KEEPS:
            place = argument if isinstance(argument, int) else len(self.memo)
            if not 0 <= place < MAX_MEMO:
                raise ValueError(f"it keeps a value at place {place}, at most {MAX_MEMO} are kept")
            self.memo[place] = self.stack[-1] if self.stack else 0
            return
        if opcode.name in _GIVES:
            self.stack.append(self.memo.get(int(str(argument)), 0))
            return
        taken = self._take(opcode)
        inside = max((depth for depth in taken if depth != _MARK), default=0)
        depth = inside + 1 if opcode.name in _TUPLES else 0
        if depth > MAX_DEPTH:
            raise ValueError(f"its tuples lie more than {MAX_DEPTH} deep in each other")
        if opcode.name == "DUP":
            self.stack += [inside, inside]
            return
        after = opcode.stack_after
        self.stack += [_MARK if one is pickletools.markobject else depth for one in after]

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[int]:
        """What an instruction takes from the stack."""
        before = opcode.stack_before
        if pickletools.markobject not in before:
            count = min(len(before), len(self.stack))
            taken = self.stack[len(self.stack) - count :]
            del self.stack[len(self.stack) - count :]
            return taken
        taken = []
        while self.stack and (depth := self.stack.pop()) != _MARK:
            taken.append(depth)
        below = before.index(pickletools.markobject)
        return taken + [self.stack.pop() for _ in range(min(below, len(self.stack)))]
