"""The agent's hands: files of one workspace, whole or not at all, and what may go wrong with them."""

import contextlib
import errno
import fcntl
import os
import stat

MYPY = False
if MYPY:
    from typing import BinaryIO, Optional

JSON_BYTES_MAX = 1024 * 1024
MESSAGE_CHARS_MAX = 2000
NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Refused(Exception):
    """Something that must not be done, or a part of the workspace that must not be read; the text says what."""


class Disk:
    """The files of one workspace, by path relative to it. Everything the agent writes is written here."""

    def __init__(self, root: str) -> None:
        if not root.startswith("/"):
            raise Refused("the workspace is not an absolute path: {!r}".format(root[:200]))
        self.root = os.path.realpath(root)
        self.safe = set()  # type: set[str]

    def missing(self) -> bool:
        """Whether there is no workspace yet. An unmounted file system is not that."""
        if is_folder(self.root):
            return False
        if not is_folder(os.path.dirname(self.root)):
            raise Refused(
                "{} is not there and neither is the folder above it; is the file system mounted?".format(self.root)
            )
        return True

    def place(self, relative: str) -> str:
        """The absolute path, or Refused for one that could lie outside the workspace or among the agent's own files."""
        if not relative or len(relative) > 4000:
            raise Refused("not a path: {!r}".format(relative[:200]))
        if any(ord(character) < 32 or ord(character) == 127 for character in relative):
            raise Refused("a path holds a control character: {!r}".format(relative[:200]))
        parts = relative.split("/")
        if any(part in ("", ".", "..") for part in parts) or parts[0].startswith("."):
            raise Refused("a path must lie inside the workspace: {!r}".format(relative[:200]))
        path = os.path.join(self.root, *parts)
        self.check_inside(os.path.dirname(path))
        if os.path.islink(path):
            raise Refused("{} is a symbolic link; the agent writes through none".format(relative))
        return path

    def check_inside(self, path: str) -> None:
        real = os.path.realpath(path)
        if real != self.root and not real.startswith(self.root + "/"):
            raise Refused("{} leads out of the workspace, to {}".format(path, real))

    def make_folder(self, relative: str) -> None:
        self.place(relative)
        self.make_safe(relative)

    def make_safe(self, relative: str) -> None:
        """The folder and those above it in the workspace, each safe in the one above, whoever made it: what is safe in
        a folder that a crash takes is not, and who made it may have been killed before it was."""
        if self.root not in self.safe:
            make_folders(self.root)
            sync_readable(os.path.dirname(self.root))
            self.safe.add(self.root)
        above = self.root
        for part in relative.split("/"):
            path = os.path.join(above, part)
            if path not in self.safe:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path)
                sync_readable(above)
                self.safe.add(path)
            above = path

    def set_aside(self, relative: str) -> None:
        """A folder, if it is there, is kept under another name beside it."""
        path = self.place(relative)
        if any(part.startswith("global_step") for part in relative.split("/")):
            raise Refused("{} is part of a checkpoint; it is not set aside".format(relative))
        if is_there(path):
            os.rename(path, self._free_name(path))
            sync_folder(os.path.dirname(path))

    def put(self, relative: str, data: bytes, replace: bool = False, aside: bool = False, keep: bool = False) -> None:
        """The file with exactly these bytes, on disk and read back. Over other bytes only with `replace`; with `aside`
        what was there is kept under another name; with `keep` whatever is there is as good."""
        path = self.place(relative)
        there = is_there(path)
        if there and (keep or read_whole(path, len(data)) == data):
            sync_folder(os.path.dirname(path))  # whoever wrote it may have been killed just before that
            return
        if there and aside:
            os.rename(path, self._free_name(path))
        elif there and not replace:
            raise Refused("{} exists with other content; it is not overwritten".format(relative))
        write_whole(path, data)
        if read_whole(path, len(data) + 1) != data:
            raise Refused("{} does not read back as it was written; is the disk failing?".format(relative))

    def remove(self, relative: str) -> None:
        path = self.place(relative)
        if any(part.startswith("global_step") for part in relative.split("/")):
            raise Refused("{} is part of a checkpoint; the agent removes none".format(relative))
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_folder(os.path.dirname(path))

    @staticmethod
    def _free_name(path: str) -> str:
        for number in range(1, 10000):
            name = "{}.aside-{}".format(path, number)
            if not is_there(name):
                return name
        raise Refused("{} was set aside too often".format(path))


def is_there(path: str) -> bool:
    """Whether anything has this name. os.path takes every error for an absence; here only an absence is one."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_folder(path: str) -> bool:
    """Whether there is a folder of this name, or a link to one. An error is not a no, but for a link to itself."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def ordinary(path: str, follow: bool = False) -> "BinaryIO":
    """An ordinary file, open for reading; nothing is waited for. OSError, Refused if it is no such file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("{} is not an ordinary file".format(path))
    return os.fdopen(descriptor, "rb")


def read_whole(path: str, bytes_max: int, follow: bool = False) -> "Optional[bytes]":
    """The bytes of an ordinary file, None if it is longer than `bytes_max`. OSError, Refused if it is no such file."""
    with ordinary(path, follow) as file:
        data = file.read(bytes_max + 1)
    return None if len(data) > bytes_max else data


def read_text(path: str, bytes_max: int) -> "Optional[str]":
    """The text of a file in the workspace, None if there is none; Refused if it is too long or not UTF-8."""
    try:
        data = read_whole(path, bytes_max)
    except FileNotFoundError:
        return None
    if data is None:
        raise Refused("{} is longer than {} bytes".format(path, bytes_max))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("{} is not UTF-8".format(path)) from None


def write_whole(path: str, data: bytes) -> None:
    """Whole or not at all, even if the machine stops: temporary name, fsync, rename, fsync of the folder."""
    folder, name = os.path.split(path)
    # The name is fixed, not random: what a killed agent left behind is removed, and the lock keeps others away.
    temporary = os.path.join(folder, ".{}.new".format(name))
    with os.fdopen(fresh_file(temporary), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_folder(folder)


def fresh_file(path: str) -> int:
    """A new file, open for writing; what had the name is gone. Never written into: it could be a link to somebody's
    file, or a pipe that nobody reads. Who else may read or write it is for the umask, and so for the team, to say."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def make_folders(path: str) -> None:
    """The folder and those above it, each safe in the one above: what is safe in a folder that a crash takes is not."""
    if is_folder(path):
        return
    above = os.path.dirname(path)
    if above != path:
        make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync_readable(above)


def sync_readable(folder: str) -> None:
    """If it may be read: a folder may be written to and not read."""
    with contextlib.suppress(PermissionError):
        sync_folder(folder)


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(folder: int) -> None:
    """Of an open folder."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise


def discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def lock_file(path: str) -> "Optional[int]":
    """An open file that is locked exclusively, None if somebody else has it locked.

    OSError with ENOLCK or ENOTSUP on file systems without flock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


def disk_trouble(error: OSError) -> str:
    what = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission is denied",
        errno.ENOENT: "there is no such file or program",
    }.get(error.errno or 0, error.strerror or str(error))
    return "{}: {}".format(error.filename if isinstance(error.filename, str) else "the workspace", what)
