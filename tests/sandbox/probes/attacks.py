"""What a stranger's plugin might try: each is code that ends without an exception where it succeeds.

`victim` is a file outside with the text "secret", `pid` a process of the same user that sleeps, `tcp`
and `udp` are ports and `stream`, `datagram` and `abstract` unix sockets that somebody listens on. The
code runs in its own scratch folder.
"""

PREAMBLE = """
import asyncio, ctypes, fcntl, mmap, os, resource, select, shutil, signal, socket, struct
import subprocess, sys, tempfile, threading, time
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
def done(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def call(name, *arguments):
    number = NUMBERS[name]
    return done(libc.syscall(number, *arguments))
"""

NUMBERS = {
    "x86_64": {
        "name_to_handle_at": 303,
        "openat2": 437,
        "io_uring_setup": 425,
        "memfd_secret": 447,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pidfd_getfd": 438,
        "process_vm_readv": 310,
        "kcmp": 312,
        "add_key": 248,
        "keyctl": 250,
        "ioprio_set": 251,
        "rt_tgsigqueueinfo": 297,
        "clone3": 435,
        "mq_open": 240,
        "execveat": 322,
        "landlock_create_ruleset": 444,
        "process_madvise": 440,
        "move_pages": 279,
        "sched_setattr": 314,
        "set_mempolicy": 238,
        "timer_create": 222,
    },
}
NUMBERS["aarch64"] = {
    "name_to_handle_at": 264,
    "openat2": 437,
    "io_uring_setup": 425,
    "memfd_secret": 447,
    "pidfd_open": 434,
    "pidfd_send_signal": 424,
    "pidfd_getfd": 438,
    "process_vm_readv": 270,
    "kcmp": 272,
    "add_key": 217,
    "keyctl": 219,
    "ioprio_set": 30,
    "rt_tgsigqueueinfo": 240,
    "clone3": 435,
    "mq_open": 180,
    "execveat": 281,
    "landlock_create_ruleset": 444,
    "process_madvise": 440,
    "move_pages": 239,
    "sched_setattr": 274,
    "set_mempolicy": 237,
    "timer_create": 107,
}

ATTACKS = {
    # files outside
    "read a file": "assert victim.read_text() == 'secret'",
    "read by a descriptor of its folder": (
        "folder = os.open(victim.parent, 0); assert os.read(os.open(victim.name, 0, dir_fd=folder), 9)"
    ),
    "read from another working folder": "os.chdir(victim.parent); assert Path(victim.name).read_text()",
    "read through a link of its own": "Path('l').symlink_to(victim); assert Path('l').read_text()",
    "read by mapping": "assert mmap.mmap(os.open(victim, 0), 6, prot=mmap.PROT_READ)[:] == b'secret'",
    "read by copying in the kernel": (
        "source = os.open(victim, 0); target = os.open('c', os.O_RDWR | os.O_CREAT)\n"
        "assert os.sendfile(target, source, 0, 6) == 6"
    ),
    "read by openat2": (
        "how = struct.pack('QQQ', 0, 0, 0); path = ctypes.create_string_buffer(bytes(victim))\n"
        "assert os.read(call('openat2', -100, path, how, 24), 9) == b'secret'"
    ),
    "take a handle of a file": (
        "handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))\n"
        "mount = ctypes.c_int()\n"
        "call('name_to_handle_at', -100, bytes(victim), handle, ctypes.byref(mount), 0)"
    ),
    "list a folder": "assert os.listdir(victim.parent)",
    "walk the whole machine": "assert os.listdir('/')  and os.listdir(victim.parents[1])",
    "read another submission": "assert (victim.parent / 'other' / 'plugin.py').read_text()",
    "write into another submission": "(victim.parent / 'other' / 'plugin.py').write_text('x')",
    "shadow another submission's module": "(victim.parent / 'other' / 'torch.py').write_text('x')",
    "write a file": "victim.write_text('x')",
    "append to a file": "open(victim, 'a').write('x')",
    "empty a file by opening it": "os.open(victim, os.O_RDONLY | os.O_TRUNC)",
    "empty a file": "os.truncate(victim, 0)",
    "remove a file": "victim.unlink()",
    "rename a file": "victim.rename(victim.with_name('moved'))",
    "move a file in": "victim.rename('here')",
    "move a file out": "Path('a').write_text('x'); Path('a').replace(victim)",
    "link a file in": "os.link(victim, 'link')",
    "link a file out": "Path('a').write_text('x'); os.link('a', victim.parent / 'link')",
    "make a file": "(victim.parent / 'new').touch()",
    "make a folder": "(victim.parent / 'new').mkdir()",
    "remove a folder": "(victim.parent / 'empty').rmdir()",
    "make a link outside": "(victim.parent / 'new').symlink_to('x')",
    "make a named pipe outside": "os.mkfifo(victim.parent / 'pipe')",
    "make a unix socket outside": "os.mknod(victim.parent / 'socket', 0o140600)",
    "change a file's mode": "victim.chmod(0o777)",
    "change a file's owner": "os.chown(victim, os.getuid(), os.getgid())",
    "change a file's time": "os.utime(victim, (1, 1))",
    "give a file an attribute": "os.setxattr(victim, 'user.a', b'b')",
    "read the attributes of a file": "os.listxattr(victim)",
    "leave a file in the shared temporary folder": "tempfile.mkstemp(dir='/tmp')",
    "leave a file in shared memory": "tempfile.mkstemp(dir='/dev/shm')",
    "read who has an account": "assert Path('/etc/passwd').read_text()",
    "read what is mounted": "assert Path('/proc/self/mountinfo').read_text()",
    "read the network's state": "assert Path('/proc/net/tcp').read_text()",
    "read the kernel's command line": "assert Path('/proc/cmdline').read_text()",
    "watch files": "done(libc.inotify_init())",
    "be told of a folder's changes": "fcntl.fcntl(os.open(victim.parent, 0), 1026, 1)",
    # one bit to another submission: both read the same installed files
    "lock a file that all read": "fcntl.flock(os.open(os.__file__, 0), fcntl.LOCK_EX)",
    "lock a part of a file that all read": "fcntl.lockf(os.open(os.__file__, 0), fcntl.LOCK_SH)",
    "own a lock by an open file": (
        "fcntl.fcntl(os.open(os.__file__, 0), 37, struct.pack('hhqqixxxx', fcntl.F_RDLCK, 0, 0, 1, 0))"
    ),
    # the network
    "connect by TCP": "socket.create_connection(('127.0.0.1', tcp), 2)",
    "listen by TCP": "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
    "send by UDP": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', udp))",
    "open an IPv6 socket": "socket.socket(socket.AF_INET6)",
    "connect to a unix socket": "socket.socket(socket.AF_UNIX).connect(stream)",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + abstract)",
    "send to a unix socket": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', datagram)",
    "send to a unix socket from a pair": (
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendmsg([b'x'], [], 0, datagram)"
    ),
    "ask the kernel for its interfaces": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    # processes
    "fork": "child = os.fork(); child or os._exit(0); os.waitpid(child, 0)",
    "fork by clone3": (
        "child = call('clone3', struct.pack('Q' * 8, 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)\n"
        "child or os._exit(0); os.waitpid(child, 0)"
    ),
    "run a program": "subprocess.run(['/bin/true'], check=True)",
    "run a shell": "assert os.system('true') == 0",
    "run a program by posix_spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "leave a daemon": "child = os.fork(); child or (os.setsid(), os.fork() or time.sleep(3), os._exit(0))",
    "run on several processors' processes": (
        "import multiprocessing; multiprocessing.get_context('fork').Pool(1).map(abs, [1])"
    ),
    "signal a process": "os.kill(pid, 0)",
    "continue a process": "os.kill(pid, signal.SIGCONT)",
    "open a process": "call('pidfd_open', pid, 0)",
    "signal by a descriptor of a process": (
        "call('pidfd_send_signal', call('pidfd_open', pid, 0), 0, None, 0)"
    ),
    "take a descriptor of a process": "call('pidfd_getfd', call('pidfd_open', pid, 0), 0, 0)",
    "signal by an owner of a descriptor": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, pid)",
    "trace a process": "done(libc.ptrace(0x4206, pid, 0, 0)); libc.ptrace(17, pid, 0, 0)",
    "read a process's environment": "assert Path(f'/proc/{pid}/environ').read_bytes()",
    "read a process's command line": "assert Path(f'/proc/{pid}/cmdline').read_bytes()",
    "read a process's memory by its file": "Path(f'/proc/{pid}/mem').open('rb')",
    "enter a process's folder": "os.chdir(f'/proc/{pid}/cwd')",
    "limit a process": "resource.prlimit(pid, resource.RLIMIT_CORE)",
    "move a process to one processor": "os.sched_setaffinity(pid, os.sched_getaffinity(pid))",
    "change a process's priority": "os.setpriority(os.PRIO_PROCESS, pid, 10)",
    "change a process's scheduler": "os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))",
    "change a process's input and output": "call('ioprio_set', 1, pid, 2 << 13)",
    "compare with a process": "call('kcmp', pid, os.getpid(), 4, 0, 0)",
    # the kernel
    "memory that no limit sees": "os.memfd_create('x')",
    "shared memory of System V": "id = done(libc.shmget(0, 99, 0o1600)); libc.shmctl(id, 0, None)",
    "a semaphore of System V": "id = done(libc.semget(0, 1, 0o1600)); libc.semctl(id, 0, 0)",
    "a message queue of System V": "id = done(libc.msgget(0, 0o1600)); libc.msgctl(id, 0, None)",
    "a queue without a scheduler's sight": "call('io_uring_setup', 4, ctypes.create_string_buffer(120))",
    "read the organizer's keys": "call('keyctl', 0, -3, 0)",
    "keep a key": "call('add_key', b'user', b'starter-probe', b'x', 1, -2)",
    "namespaces of its own": "done(libc.unshare(0x10000000))",
    "change the personality": "done(libc.personality(0x0040000))",
    "outlive the supervisor": "done(libc.prctl(1, 0, 0, 0, 0))",
}
"""Plain English to code."""
