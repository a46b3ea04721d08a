"""A torch file read as plain data, without torch and without running anything of it.

A torch file is a zip archive that is not compressed; its `data.pkl` says everything but the numbers in the tensors.
Here that pickle is data: its opcodes are followed by a machine that knows plain values and containers. A class stays a
name, a call what was called and with what, a tensor its shape. Nothing is imported, called or allocated by what a file
says, and every size is bounded.
"""

import errno
import io
import os
import pickletools
import re
import stat
import time
import zipfile

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import disk_trouble

READ_BYTES_MAX = 4 * 1024 * 1024
"""Of a pickle, some 200 bytes for each tensor, and of a zip archive's list of entries."""
ENDING_BYTES_MAX = 128 * 1024
"""Of a zip archive's end, with the comment that it may have."""
OFFSET_MAX = 2**50
OPCODES_MAX = 400000
PICKLE_S_MAX = 10.0
NAME_CHARS_MAX = 100
NO_FAULT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL)
LONG_NUMBER = re.compile(rb"[0-9_]{5000}")
"""A number in digits takes the square of its length to read; torch writes none."""


class Odd(Exception):
    """The file is not what a checkpoint is; the text says what of it."""


class Named:
    """A class, or what a call of one would be: its name, the arguments, the state. None of it is run."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: "Any" = ()) -> None:
        self.name, self.arguments, self.state = name, arguments, None  # type: str, Any, Any


class Machine:
    """Follows the opcodes of a pickle."""

    def __init__(self) -> None:
        self.stack = []  # type: List[Any]
        self.marks = []  # type: List[int]
        self.memo = {}  # type: Dict[int, Any]

    def run(self, data: bytes) -> "Any":
        """What the pickle holds. Odd, or whatever a broken one makes of the stack."""
        until = time.monotonic() + PICKLE_S_MAX
        for done, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if done >= OPCODES_MAX or (done % 1024 == 0 and time.monotonic() > until):
                raise Odd("its pickle is longer than that of a checkpoint")
            if opcode.name in LITERALS:
                self.stack.append(LITERALS[opcode.name](argument))
            elif opcode.name == "STOP":
                return self.stack.pop()
            elif opcode.name not in STEPS:
                raise Odd("its pickle has {}, which no checkpoint has".format(opcode.name))
            else:
                STEPS[opcode.name](self, argument)
        raise Odd("its pickle does not end")

    def marked(self) -> "List[Any]":
        """What was put on the stack since the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def mark(self, argument: "Any") -> None:
        self.marks.append(len(self.stack))

    def put(self, argument: "Any") -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument: "Any") -> None:
        self.stack.append(self.memo[argument])

    def tuple_of(self, size: "Optional[int]") -> None:
        if size is None:
            self.stack.append(tuple(self.marked()))
        else:
            taken = tuple(self.stack[len(self.stack) - size :])
            del self.stack[len(self.stack) - size :]
            self.stack.append(taken)

    def append(self, values: "List[Any]") -> None:
        if not isinstance(self.stack[-1], list):
            raise Odd("its pickle appends to what is no list")
        self.stack[-1].extend(values)

    def fill(self, pairs: "List[Any]") -> None:
        target = self.stack[-1]
        for key, value in zip(pairs[::2], pairs[1::2]):
            if isinstance(target, dict) and plain_key(key):
                target[key] = value

    def name(self, argument: "Any") -> None:
        self.stack.append(Named(argument.replace(" ", ".")))

    def stack_name(self, argument: "Any") -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Named("{}.{}".format(module, name) if is_name(module) and is_name(name) else "?"))

    def call(self, argument: "Any") -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        name = called.name if isinstance(called, Named) else "?"
        # What torch keeps in order is a dictionary to us; its items, if they come in the call, are not looked at.
        self.stack.append({} if name == "collections.OrderedDict" else Named(name, arguments))

    def build(self, argument: "Any") -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Named):
            self.stack[-1].state = state

    def outside(self, argument: "Any") -> None:
        self.stack[-1] = Named("storage", self.stack[-1])


def plain_key(key: "Any") -> bool:
    """Whether it is a key as checkpoints have them, which is quick to look up whoever chose it."""
    return key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**31)


def is_name(value: "Any") -> bool:
    return isinstance(value, str) and len(value) <= NAME_CHARS_MAX


LITERALS = {}  # type: Dict[str, Any]
for code in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"):
    LITERALS[code] = lambda argument: argument
for code in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"):
    LITERALS[code] = lambda argument: argument
LITERALS.update(NONE=lambda _: None, NEWTRUE=lambda _: True, NEWFALSE=lambda _: False)
LITERALS.update(EMPTY_DICT=lambda _: {}, EMPTY_LIST=lambda _: [], EMPTY_TUPLE=lambda _: ())
LITERALS.update(EMPTY_SET=lambda _: Named("set"))
STEPS = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": Machine.mark,
    "BINPUT": Machine.put,
    "LONG_BINPUT": Machine.put,
    "MEMOIZE": Machine.put,
    "BINGET": Machine.get,
    "LONG_BINGET": Machine.get,
    "TUPLE": lambda machine, argument: machine.tuple_of(None),
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "APPEND": lambda machine, argument: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, argument: machine.append(machine.marked()),
    "ADDITEMS": lambda machine, argument: machine.marked(),
    "SETITEM": lambda machine, argument: machine.fill([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, argument: machine.fill(machine.marked()),
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.outside,
}  # type: Dict[str, Any]
"""What torch writes, in whichever protocol. There is no opcode here that makes room for what is not in the file."""


class Rationed(io.RawIOBase):
    """An open file of which little is read at once, whatever size a zip archive says that its list of entries has."""

    def __init__(self, descriptor: int) -> None:
        self.file = os.fdopen(descriptor, "rb")

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and not 0 <= offset <= OFFSET_MAX:
            raise Odd("it points outside of itself")
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > READ_BYTES_MAX:
            raise Odd("its list of entries has {} bytes".format(size))
        return self.file.read(ENDING_BYTES_MAX if size < 0 else size)

    def close(self) -> None:
        self.file.close()


def pickled(path: str) -> bytes:
    """The pickle of a torch file. Odd if it is no such file, or not an ordinary one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    file = Rationed(descriptor)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Odd("it is not an ordinary file")
        if os.pread(descriptor, 4, 0) != b"PK\x03\x04":
            raise Odd("it is not written as torch writes since 1.6")
        size = os.fstat(descriptor).st_size
        if os.pread(descriptor, 4, max(0, size - 22)) != b"PK\x05\x06":
            raise Odd("it is cut short at {} bytes".format(size))
        with zipfile.ZipFile(file) as archive:
            entry = next((e for e in archive.infolist() if e.filename.partition("/")[2] == "data.pkl"), None)
            if entry is None:
                raise Odd("it holds no pickle")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > READ_BYTES_MAX:
                raise Odd("its pickle is compressed, or has more than {} bytes".format(READ_BYTES_MAX))
            if not entry.CRC:  # switched off where it was written
                entry.CRC = None  # type: ignore[assignment]
            with archive.open(entry) as inner:
                return inner.read()
    finally:
        file.close()


def unpickled(path: str) -> "Dict[str, Any]":
    """What a torch file holds, as a dictionary of plain values and `Named`. Odd, with the reason, for anything else."""
    try:
        data = pickled(path)
        if LONG_NUMBER.search(data):
            raise Odd("its pickle holds a number of thousands of digits")
        found = Machine().run(data)
    except Odd as odd:
        raise Odd("{} cannot be read: {}".format(os.path.basename(path), odd)) from None
    except OSError as error:
        if error.errno not in NO_FAULT:
            raise  # what could not be read is not damaged
        why = disk_trouble(error).rpartition(": ")[2]
        raise Odd("{} cannot be read: {}".format(os.path.basename(path), why)) from None
    except Exception as error:  # a hostile or damaged archive or pickle can raise anything
        told = "{}: {}".format(type(error).__name__, error)[:200]
        raise Odd("{} cannot be read: it is damaged ({})".format(os.path.basename(path), told)) from None
    if not isinstance(found, dict):
        raise Odd("{} cannot be read: it holds no checkpoint".format(os.path.basename(path)))
    return found
