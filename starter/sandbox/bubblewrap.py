"""bubblewrap's command line: an empty root, and the Python environment read-only in it.

It hides the files, the network and the other processes; the worker in it locks itself down as well
(lockdown.py). Options: bwrap(1).
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from starter.sandbox import lockdown
from starter.sandbox.protocol import BOX_FOLDER

_LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_NAMESPACES = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_TO_BECOME_A_USER = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


def command_line(*, user: int | None, readable: Sequence[str], size: int) -> list[str]:
    """Return what stands before the command that runs in the box.

    Args:
        user: who that command becomes where the kit runs as root; None: it stays who it is.
        readable: files and folders that it sees, beside the Python environment.
        size: bytes of its working folder, a file system in memory.
    """
    command = [shutil.which("bwrap") or "bwrap", *_NAMESPACES]  # by our PATH; the worker has the system's
    command += [
        "--hostname",
        "sandbox",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
    ]
    if os.getuid() != 0:
        command += ["--unshare-user", "--disable-userns"]
    elif user is not None:  # root needs no user namespace; the worker becomes another user first
        command += [word for capability in _TO_BECOME_A_USER for word in ("--cap-add", capability)]
    command += _visible(readable)
    command += ["--size", str(size), "--perms", "0777", "--tmpfs", BOX_FOLDER]
    return [*command, "--chdir", BOX_FOLDER, "--remount-ro", "/", "--"]


def _visible(readable: Sequence[str]) -> list[str]:
    """Return the options that show files of this machine."""
    options: list[str] = []
    for path in _LINKED:
        if Path(path).is_symlink():
            options += ["--symlink", str(Path(path).readlink()), path]
        else:
            options += ["--ro-bind-try", path, path]
    shown = [path for path in map(str, lockdown.environment()) if path not in {"/lib", "/lib64"}]
    for folder in sorted({str(above) for path in shown for above in Path(path).parents}):
        options += ["--perms", "0755", "--dir", folder]  # bubblewrap's own would be its user's alone
    for path in (*shown, *readable):
        options += ["--dev-bind-try" if path.startswith("/dev/") else "--ro-bind-try", path, path]
    return [*options, "--dev-bind", "/dev/null", "/dev/null"]
