"""The standard library as the agent sees it on a simulated machine: os, fcntl, subprocess, select, time, pwd, sys. The
agent's own source runs on top of this."""

from __future__ import annotations

import calendar
import errno
import io
import posixpath
import stat
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.sim.disk import Inode, problem
from tests.sim.machine import Child, Killed, OpenFile, Process

USER = "ada"
NAMES = ("os", "fcntl", "subprocess", "select", "time", "pwd", "sys")
"""The modules that differ from the real ones."""


def modules(process: Process, stdin: bytes, stdout: io.BytesIO) -> dict[str, Any]:
    """Each of `NAMES` as one process has it."""
    fake = Os(process)
    return {
        "os": fake,
        "fcntl": SimpleNamespace(LOCK_EX=2, LOCK_NB=4, flock=fake.flock),
        "subprocess": SimpleNamespace(
            Popen=lambda argv, **named: Popen(process, argv, **named),
            TimeoutExpired=subprocess.TimeoutExpired,
            PIPE=subprocess.PIPE,
            DEVNULL=subprocess.DEVNULL,
        ),
        "select": SimpleNamespace(select=process.select),
        "time": SimpleNamespace(
            time=lambda: process.cluster.now + process.node.skew_s,
            monotonic=lambda: process.cluster.now,
            sleep=lambda seconds: process.cluster.pass_time(process.cluster.now + seconds),
            mktime=lambda parts: float(calendar.timegm(parts)),
        ),
        "pwd": SimpleNamespace(getpwuid=lambda uid: SimpleNamespace(pw_name=USER)),
        "sys": SimpleNamespace(
            stdin=SimpleNamespace(buffer=io.BytesIO(stdin)),
            stdout=SimpleNamespace(buffer=stdout),
            exit=lambda status=0: (_ for _ in ()).throw(SystemExit(status)),
        ),
    }


class Os:
    """The calls of `os` that the agent makes."""

    O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC = 0, 1, 2, 64, 128, 512
    O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC = 2048, 65536, 131072, 524288
    defpath, pathsep = "/bin:/usr/bin", ":"

    def __init__(self, process: Process) -> None:
        self.process, self.disk = process, process.disk
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": f"/home/{USER}"}
        self.path = Path(process)

    def getpid(self) -> int:
        return self.process.pid

    def geteuid(self) -> int:
        return 1000

    def uname(self) -> SimpleNamespace:
        return SimpleNamespace(nodename=self.process.node.name)

    def kill(self, pid: int, signal: int) -> None:
        if pid not in self.process.node.pids:
            raise problem(errno.ESRCH, "")

    def readlink(self, path: str) -> str:
        return f"pid:[{self.process.node.name}]"

    def at(self, path: str, folder: int | None) -> str:
        """A name in an open folder as a path."""
        return path if folder is None else f"{self.process.files[folder].path}/{path}"

    def listdir(self, path: str | int) -> list[str]:
        if isinstance(path, int):
            path = self.process.files[path].path
        self.process.point("listdir", path)
        inode = self.disk.find(path)
        if not inode.folder:
            raise problem(errno.ENOTDIR, path)
        return list(inode.entries)

    def scandir(self, path: str) -> Scan:
        return Scan([Entry(name, self.disk.find(path).entries[name]) for name in self.listdir(path)])

    def mkdir(self, path: str) -> None:
        self.process.point("mkdir", path)
        self.disk.mkdir(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.process.point("mkdir", path)
        self.disk.makedirs(path)

    def rename(self, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        old, new = self.at(old, src_dir_fd), self.at(new, dst_dir_fd)
        self.process.point("rename", old)
        self.process.cluster.renames(old, new, self.process)
        self.disk.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self.process.point("link", new)
        self.disk.link(old, new)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        path = self.at(path, dir_fd)
        self.process.point("unlink", path)
        self.process.cluster.deletes(path, self.process)
        self.disk.unlink(path)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        path = self.at(path, dir_fd)
        self.process.point("rmdir", path)
        self.process.cluster.deletes(path, self.process)
        self.disk.rmdir(path)

    def lstat(self, path: str) -> SimpleNamespace:
        return self.stat(path)

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> SimpleNamespace:
        path = self.at(path, dir_fd)
        self.process.point("stat", path)
        return about(self.disk.find(path))

    def fstat(self, fd: int) -> SimpleNamespace:
        self.process.point("fstat")
        return about(self.process.files[fd].inode)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        path = self.at(path, dir_fd)
        self.process.point("create" if flags & self.O_CREAT else "open", path)
        inode = self.disk.create(path, bool(flags & self.O_EXCL)) if flags & self.O_CREAT else self.disk.find(path)
        if inode.folder and flags & 3:
            raise problem(errno.EISDIR, path)
        if flags & self.O_DIRECTORY and not inode.folder:
            raise problem(errno.ENOTDIR, path)
        if flags & self.O_TRUNC and inode.data:
            inode.put(self.disk.now, b"")
        self.process.next_fd += 1
        self.process.files[self.process.next_fd] = OpenFile(inode, path, flags)
        return self.process.next_fd

    def close(self, fd: int) -> None:
        if self.process.dead:
            raise Killed
        opened = self.process.files.pop(fd, None)
        if opened is None:
            raise problem(errno.EBADF, "")
        opened.closed(self.disk)

    def fsync(self, fd: int) -> None:
        opened = self.process.files[fd]
        self.process.point("fsync", opened.path)
        opened.inode.sync()

    def read(self, fd: int, size: int) -> bytes:
        pipe: Pipe = self.process.pipes[fd]
        return pipe.take(size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        opened = self.process.files[fd]
        self.process.point("read", opened.path)
        return opened.inode.data[offset : offset + size]

    def fdopen(self, fd: int, mode: str) -> File:
        return File(self, fd)

    def flock(self, fd: int, how: int) -> None:
        opened = self.process.files[fd]
        self.process.point("flock", opened.path)
        if not self.disk.flock(opened.inode, opened, self.process.node.name):
            raise problem(errno.EWOULDBLOCK, opened.path)


def about(inode: Inode) -> SimpleNamespace:
    kind = stat.S_IFDIR if inode.folder else stat.S_IFREG
    return SimpleNamespace(
        st_mode=kind | 0o644,
        st_size=len(inode.data),
        st_mtime=inode.mtime,
        st_ctime=inode.mtime,
        st_mtime_ns=int(inode.mtime * 1e9),
        st_ino=inode.number,
    )


class Path:
    """`os.path`; there are no symbolic links."""

    join, dirname, split = staticmethod(posixpath.join), staticmethod(posixpath.dirname), staticmethod(posixpath.split)
    basename = staticmethod(posixpath.basename)

    def __init__(self, process: Process) -> None:
        self.process = process

    def realpath(self, path: str) -> str:
        return posixpath.normpath(path)

    def islink(self, path: str) -> bool:
        return False

    def exists(self, path: str) -> bool:
        if path == "/proc/self":
            return True
        try:
            self.process.point("stat", path)
            self.process.disk.find(path)
        except OSError:
            return False
        return True


class Entry:
    """What scandir yields."""

    def __init__(self, name: str, inode: Inode) -> None:
        self.name, self.inode = name, inode

    def stat(self, follow_symlinks: bool = True) -> SimpleNamespace:
        return about(self.inode)


class Scan(list[Entry]):
    """A list that is its own context."""

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class File:
    """A file object over a descriptor; what is written stays in a buffer until it is flushed."""

    def __init__(self, system: Os, fd: int) -> None:
        self.system, self.fd, self.buffer = system, fd, b""

    def fileno(self) -> int:
        return self.fd

    def read(self, size: int = -1) -> Any:
        opened = self.system.process.files[self.fd]
        self.system.process.point("read", opened.path)
        data = opened.inode.data[opened.at :] if size < 0 else opened.inode.data[opened.at : opened.at + size]
        opened.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        opened = self.system.process.files[self.fd]
        opened.at = offset + (0, opened.at, len(opened.inode.data))[whence]
        return opened.at

    def tell(self) -> int:
        return self.system.process.files[self.fd].at

    def close(self) -> None:
        self.system.close(self.fd)

    def write(self, data: bytes) -> None:
        self.buffer += data

    def flush(self) -> None:
        data, self.buffer = self.buffer, b""
        if not data:
            return
        opened = self.system.process.files[self.fd]
        disk = self.system.disk

        def put(piece: bytes) -> None:
            disk.write(opened.inode, opened.inode.data[: opened.at] + piece, opened.path)

        try:
            self.system.process.point("write", opened.path)
            put(data)
        except BaseException:
            if not disk.full:
                put(data[: len(data) // 2])  # a write that fails has written as much as it could
            raise
        opened.at += len(data)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        if self.system.process.dead:
            raise Killed
        try:
            self.flush()
        finally:
            self.system.close(self.fd)


class Text:
    """A file of /proc."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self) -> str:
        return self.text

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def opener(process: Process, system: Os) -> Callable[..., File | Text]:
    """The builtin `open`."""

    def opened(path: str, mode: str = "r") -> File | Text:
        if path == "/proc/sys/kernel/random/boot_id":
            return Text(process.node.boot + "\n")
        if path.startswith("/proc/"):
            start = process.node.pids.get(int(path.split("/")[2]))
            if start is None:
                raise problem(errno.ENOENT, path)
            return Text(f"1 (python3) S {'0 ' * 18}{start} 0")
        flags = Os.O_WRONLY | Os.O_CREAT | Os.O_TRUNC if "w" in mode else Os.O_RDONLY
        return File(system, system.open(path, flags))

    return opened


class Pipe:
    """One output of a command that only looks."""

    def __init__(self, process: Process, child: Child, which: int) -> None:
        process.next_fd += 1
        self.fd, self.child, self.which, self.at = process.next_fd, child, which, 0
        process.pipes[self.fd] = self

    def fileno(self) -> int:
        return self.fd

    def take(self, size: int) -> bytes:
        answer = self.child.finish()
        data = answer[1] if self.which == 1 else answer[2]
        piece = data[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def close(self) -> None:
        return None


class Popen:
    """A started PBS command."""

    def __init__(self, process: Process, argv: list[str], **named: Any) -> None:
        process.point("exec", argv[0])
        self.process = process
        held = None
        for fd in named.get("pass_fds", ()):
            held = process.files[fd]
            held.holders += 1
        files = None
        if isinstance(named["stdout"], File):
            files = (process.files[named["stdout"].fd].inode, process.files[named["stderr"].fd].inode)
        self.child = process.cluster.command(argv, process, files, held)
        self.stdout = None if files else Pipe(process, self.child, 1)
        self.stderr = None if files else Pipe(process, self.child, 2)
        self.killed = False

    def wait(self, timeout: float | None = None) -> int:
        if self.killed:
            return -9
        self.process.point("wait")
        cluster = self.process.cluster
        if timeout is not None and self.child.ready_at > cluster.now + timeout:
            cluster.pass_time(cluster.now + timeout)
            raise subprocess.TimeoutExpired("qsub", timeout)
        cluster.pass_time(self.child.ready_at)
        return self.child.finish()[0]

    def poll(self) -> int | None:
        if self.killed:
            return -9
        return self.child.finish()[0] if self.child.ready_at <= self.process.cluster.now else None

    def kill(self) -> None:
        self.killed = True
