r"""Make this process look to our code like one on Windows; libraries see the system that they are built for.

`make_python` writes a virtual environment whose every process calls `hide` first, also with -I and
as a child of a child. What is imitated:

- functions and constants of os, signal, socket and select that Windows lacks, and POSIX modules
- /proc, for all but installed libraries, and `ctypes.CDLL(None)`
- a file that is open or mapped here can be neither removed nor renamed; a rename replaces nothing
- no symbolic links; a NamedTemporaryFile cannot be opened again by its name
- text is written with "\r\n" where nobody says otherwise; text without an encoding is an error
- select.select takes sockets only

Not imitated: os.name, drives and backslashes, names that are not allowed, a file that another process
holds, stat results without st_blocks, `os.stat` on /proc, and how processes end.
"""

import _io
import builtins
import ctypes  # noqa: F401 - it loads itself by what `hide` refuses
import importlib
import importlib.util
import io
import os
import posix
import select
import shutil
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

POSIX_MODULES = """
_posixsubprocess _signal fcntl grp posix pty pwd readline resource spwd syslog termios tty
"""
OS_ON_WINDOWS = """
DirEntry F_OK O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY P_NOWAIT P_NOWAITO P_WAIT R_OK TMP_MAX
W_OK X_OK abort access chdir chmod close closerange cpu_count device_encoding dup dup2 environ error execv
execve fspath fstat fsync ftruncate get_inheritable get_terminal_size getcwd getcwdb getlogin getpid getppid
isatty kill link listdir lseek lstat mkdir open pipe process_cpu_count putenv read readlink remove rename
replace rmdir scandir set_inheritable spawnv spawnve stat stat_result statvfs_result strerror symlink system
terminal_size times times_result truncate umask uname_result unlink unsetenv urandom utime waitpid
waitstatus_to_exitcode write
"""
SIGNAL_ON_WINDOWS = """
Handlers NSIG SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN Signals default_int_handler
getsignal raise_signal set_wakeup_fd signal strsignal valid_signals
"""
MODULES = frozenset(POSIX_MODULES.split())
ON_WINDOWS = {
    os: frozenset(OS_ON_WINDOWS.split()),
    signal: frozenset(SIGNAL_ON_WINDOWS.split()),
    select: frozenset({"error", "select"}),
}
NOT_ON_WINDOWS = {
    os: [name for name in vars(posix) if not name.startswith("_")] + ["fwalk"],
    signal: [name for name in vars(signal) if not name.startswith("_")],
    select: [name for name in vars(select) if not name.startswith("_")],
    socket: ["AF_UNIX", "AF_NETLINK", "AF_PACKET", "SCM_RIGHTS", "SO_PEERCRED", "CMSG_LEN", "CMSG_SPACE",
             "send_fds", "recv_fds"],
}  # fmt: skip
STDLIB = sysconfig.get_paths()["stdlib"]
MAPS = Path("/proc/self/maps")


def make_python(folder: Path, repository: Path) -> Path:
    """Make a virtual environment of this one's packages in which POSIX is hidden; return its Python."""
    venv.create(folder, symlinks=True, with_pip=False)
    here = next(folder.glob("lib/python*/site-packages"))
    shutil.copy(__file__, here / "no_posix.py")
    packages = sysconfig.get_paths()["purelib"]
    lines = (
        f"import no_posix; no_posix.hide({str(repository / 'starter')!r})",
        str(repository),
        f"import site; site.addsitedir({packages!r})",
    )
    (here / "no_posix.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def hide(kit: str) -> None:
    """Hide POSIX from everything but the standard library and what is installed, from now on.

    Args:
        kit: the folder of the code that must name the encoding of every text file.
    """
    if "__getattr__" in vars(os):
        return  # lib64 is lib: its .pth files are read twice
    real_socketpair, unix = socket.socketpair, socket.AF_UNIX
    for module, names in NOT_ON_WINDOWS.items():
        _hide_names(module, set(names) - ON_WINDOWS.get(module, frozenset()))
    if hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count  # the other one reads a global of os that is gone now
    socket.socketpair = lambda *_: real_socketpair(unix)
    select.select = _sockets_only(select.select)
    builtins.__import__ = _without_modules(builtins.__import__)
    for name in ("find_spec", "import_module"):
        module = importlib.util if name == "find_spec" else importlib
        setattr(module, name, _without_modules(getattr(module, name)))
    builtins.open = io.open = _as_text_on_windows(io.open, kit)
    for name in ("remove", "unlink", "rename", "replace", "rmdir"):
        setattr(os, name, _refusing_open_files(getattr(os, name)))
    os.symlink = _no_symlinks(os.symlink)
    temporary: set[str] = set()
    tempfile.NamedTemporaryFile = _remembering(tempfile.NamedTemporaryFile, temporary)
    sys.addaudithook(_auditor(temporary))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(newline="\r\n")


def _is_standard(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith("<frozen ") or (name.startswith(STDLIB) and "site-packages" not in name)


def _is_library(frame: FrameType) -> bool:
    return _is_standard(frame) or "site-packages" in frame.f_code.co_filename


def _asker() -> FrameType:
    """Return the frame that wanted what the standard library does now; ours in this file do not count."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (_is_standard(frame) or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return frame


def _hide_names(module: ModuleType, names: Collection[str]) -> None:
    kept = {name: vars(module)[name] for name in names if name in vars(module)}
    for name in kept:
        delattr(module, name)

    def find(name: str) -> Any:
        if name in kept and _is_library(sys._getframe(1)):
            return kept[name]
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)

    vars(module)["__getattr__"] = find


def _without_modules(find: Callable[..., Any]) -> Callable[..., Any]:
    def importing(name: str, *args: Any, **options: Any) -> Any:
        if name in MODULES and not _is_library(sys._getframe(1)):
            if find.__name__ == "find_spec":
                return None
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return find(name, *args, **options)

    return importing


def _sockets_only(wait: Callable[..., Any]) -> Callable[..., Any]:
    def select_sockets(*lists: Any) -> Any:
        handles = [handle for one in lists[:3] for handle in one]
        if not _is_library(sys._getframe(1)) and not all(isinstance(h, socket.socket) for h in handles):
            raise OSError(10038, "an operation was attempted on something that is not a socket")
        return wait(*lists)

    return select_sockets


def _as_text_on_windows(opens: Callable[..., Any], kit: str) -> Callable[..., Any]:
    def opening(  # noqa: PLR0913, PLR0917 - as open
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
        errors: str | None = None, newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        if "b" not in mode:
            if encoding in {None, "locale"} and _asker().f_code.co_filename.startswith(kit):
                raise EncodingWarning(f"{file} is opened without an encoding")
            if newline is None and any(letter in mode for letter in "wax+"):
                newline = "\r\n"
        return opens(file, mode, buffering, encoding, errors, newline, closefd, opener)

    return opening


def _open_here() -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and status of every file that this process has open."""
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would ask us again
        try:
            found = os.stat(int(descriptor))  # noqa: PTH116 - a descriptor
            name = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - as above
        except OSError:  # the one that lists them
            continue
        if stat.S_ISREG(found.st_mode):
            yield name, found


def _refuse_open(paths: Iterable[Any]) -> None:
    with _io.open(MAPS, encoding="utf-8", errors="replace") as file:
        mapped = file.read()
    held = list(_open_here())
    for path in paths:
        place = os.path.realpath(path)
        inside = os.path.join(place, "")  # noqa: PTH118 - as above
        if f" {place}\n" in mapped or any(n == place or n.startswith(inside) for n, _ in held):
            raise PermissionError(13, "the process cannot access the file because it is being used", path)


def _refusing_open_files(change: Callable[..., None]) -> Callable[..., None]:
    def changing(*paths: Any, **options: Any) -> None:
        caller = sys._getframe(1)
        if not _is_library(caller) or "pathlib" in caller.f_code.co_filename:
            _refuse_open(paths)
            if change.__name__ == "rename" and os.path.lexists(paths[1]):
                raise FileExistsError(17, "cannot create a file when that file already exists", paths[1])
        change(*paths, **options)

    return changing


def _no_symlinks(link: Callable[..., None]) -> Callable[..., None]:
    def linking(source: Any, target: Any, *args: Any, **options: Any) -> None:
        if not _is_library(_asker()):
            raise OSError(22, "a required privilege is not held by the client", target)
        link(source, target, *args, **options)

    return linking


def _remembering(make: Callable[..., Any], names: set[str]) -> Callable[..., Any]:
    def making(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)
        if options.get("delete", True) and options.get("delete_on_close", True):
            names.add(made.name)
        return made

    return making


def _auditor(temporary: Collection[str]) -> Callable[[str, tuple[Any, ...]], None]:
    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "ctypes.dlopen" and args[0] is None and not _is_library(_asker()):
            raise TypeError("bad argument type for built-in operation")
        if event not in {"open", "os.listdir", "os.scandir"} or isinstance(args[0], int | None):
            return
        if sys._getframe(1).f_code in {_open_here.__code__, _refuse_open.__code__}:
            return
        path = os.fsdecode(args[0])
        if path in temporary:
            raise PermissionError(13, "the process cannot access the file because it is being used", path)
        if f"{path}/".startswith("/proc/") and not _is_library(_asker()):
            raise FileNotFoundError(2, "No such file or directory", path)

    return audit
