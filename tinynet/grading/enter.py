"""Enters the sandbox and starts a command in it: the first thing that runs in the process of a submission.

    python -I -S enter.py '{"command": [...], "environment": {...}, "limits": {...}, ...}'

Only Python's own modules, and nothing of a submission yet. Three processes come of it, so that nothing outlives the
grader or the command:

    outside   waits; dies with the grader (and the grader kills it at the time limit)
    keeper    process 1 of the namespaces; dies with `outside`, and the kernel then kills everything inside
    command   with limits, without privileges; runs the submission

Where there are no namespaces, `outside` adopts what the command leaves behind and kills it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

# <sched.h>, <sys/mount.h>, <sys/prctl.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
KEPT = {"ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "noatime": 1024,
        "nodiratime": 2048, "relatime": 1 << 21}  # fmt: skip
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 1, 4, 38, 36

NOT_ENTERED = 97  # the exit code that says: the sandbox itself could not be made; the reason is on stderr
FIRST_FREE_USER = 1_900_000_000  # far above the ranges that distributions hand out
NOBODY = 65534



@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def main() -> None:
    options = json.loads(sys.argv[1])
    try:
        die_with_parent(options["parent"])
        with contextlib.suppress(OSError):
            _write("/proc/self/oom_score_adj", "1000")  # if memory runs out after all, this goes first
        if options["namespaces"]:
            command = _enter_namespaces(options)
        else:
            command = _enter_limits(options)
    except OSError as error:
        _fail(error)
    sys.exit(command)


def _fail(error: OSError) -> NoReturn:
    sys.stderr.write(f"sandbox: {error}\n")
    sys.stderr.flush()
    os._exit(NOT_ENTERED)


def _called(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, value: int) -> None:
    """Linux's process control; nothing elsewhere."""
    if sys.platform == "linux":
        _called(_libc().prctl(option, value, 0, 0, 0), f"prctl {option}")


def die_with_parent(parent: int) -> None:
    """From now on this process is killed when the thread that started it ends, which may already have been."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(NOT_ENTERED)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _wait_for(pid: int) -> int:
    """Waits for one child, burying all others; its exit code, as a shell reports it."""
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        if ended == pid:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _close_all(kept: list[int]) -> None:
    """Closes every descriptor above stderr that is not kept."""
    first = 3
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(first, descriptor)
        first = descriptor + 1


# With namespaces


def _enter_namespaces(options: dict[str, Any]) -> int:
    user, group = os.getuid(), os.getgid()
    as_root = os.geteuid() == 0
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    _called(_libc().unshare(flags if as_root else flags | CLONE_NEWUSER), "unshare")
    if not as_root:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    own_user = FIRST_FREE_USER + os.getpid() if as_root else None
    keeper = os.fork()
    if keeper == 0:
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            own_user = _possible_user(own_user)
            _build_world(options, own_user)
            _keep(options, own_user)
        except OSError as error:
            _fail(error)
    _close_all([])
    return _wait_for(keeper)


def _keep(options: dict[str, Any], own_user: int | None) -> NoReturn:
    """Process 1: starts the command and ends with it, which ends everything else in here."""
    prctl(PR_SET_DUMPABLE, 0)  # nobody inside looks into it or steers it
    command = os.fork()
    if command == 0:
        _become_command(options, own_user)
    _close_all([])
    os._exit(_wait_for(command))


def _build_world(options: dict[str, Any], own_user: int | None) -> None:
    """A new root: a read-only view of what Python needs, a scratch folder, nothing else."""
    world = options["world"]
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", world, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"{world}/tmp")
    size = f"size={options['limits']['disk']},nr_inodes=2000,mode=700"
    _mount("tmpfs", f"{world}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, size)
    for source, place in options["binds"]:
        _bind(source, world + place)
    for place, target in options["links"]:
        os.symlink(target, world + place)
    _make_read_only(world)
    os.mkdir(f"{world}/empty")
    for place in options["hidden"]:
        if os.path.isdir(world + place):
            _mount(f"{world}/empty", world + place, None, MS_BIND)
        elif os.path.exists(world + place):
            _mount("/dev/null", world + place, None, MS_BIND)
    os.mkdir(f"{world}/proc")
    with contextlib.suppress(OSError):  # inside of some containers; Python and NumPy do without
        _mount("proc", f"{world}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    if own_user is not None:
        os.chown(f"{world}/tmp", own_user, own_user)
    os.chdir(world)
    _called(_libc().pivot_root(b".", b"."), "pivot_root")  # the old root now lies over the new one
    _called(_libc().umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")
    _mount(None, "/", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.chdir("/tmp")


def _bind(source: str, place: str) -> None:
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "a"):
            pass
    _mount(source, place, None, MS_BIND | MS_REC)


def _make_read_only(world: str) -> None:
    """Every mount below, also those that came along with another; the flags it has are kept."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    for fields in lines:
        place = fields[4].encode().decode("unicode_escape")
        if place.startswith(world + "/") and place != f"{world}/tmp":
            flags = sum({KEPT[option] for option in fields[5].split(",") if option in KEPT})
            if not place.startswith(f"{world}/dev/"):
                flags |= MS_NODEV
            _mount(None, place, None, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_RDONLY | flags)


def _mount(source: str | None, place: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, place, kind, data)]
    source_bytes, place_bytes, kind_bytes, data_bytes = texts
    result = _libc().mount(source_bytes, place_bytes, kind_bytes, ctypes.c_ulong(flags), data_bytes)
    _called(result, f"mount {source} at {place}")


# Without


def _enter_limits(options: dict[str, Any]) -> int:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    own_user = _possible_user(FIRST_FREE_USER + os.getpid()) if options["separate_user"] else None
    scratch = options["scratch"]
    if own_user is not None:
        os.chown(scratch, own_user, own_user)
    os.chdir(scratch)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # SIGKILL would leave the command behind
    command = os.fork()
    if command == 0:
        _become_command(options, own_user)
    _close_all([])

    def stop(number: int, frame: object) -> None:
        _kill_all(command, own_user)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    code = _wait_for(command)
    _kill_all(command, own_user)
    return code


def _kill_all(command: int, own_user: int | None) -> None:
    """The command, what it started, and what that left behind (as far as this system lets us find it)."""
    with contextlib.suppress(OSError):
        os.killpg(command, signal.SIGKILL)
    if own_user is not None:
        killer = os.fork()
        if killer == 0:
            with contextlib.suppress(OSError):
                os.setuid(own_user)
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(killer, 0)
    for _ in range(100):
        children = _children()
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not children:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    """This process's children; orphans of theirs become ours."""
    own = os.getpid()
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == own:
                    found.append(int(name))
    return found


# The command itself


def _possible_user(wanted: int | None) -> int | None:
    """The user to become, or nobody where this system's range of users is shorter."""
    if wanted is None or sys.platform != "linux":
        return wanted
    with open("/proc/self/uid_map") as file:
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, file)]
    return wanted if any(first <= wanted < first + count for first, count in ranges) else NOBODY


def _become_command(options: dict[str, Any], own_user: int | None) -> NoReturn:
    try:
        os.setsid()
        _limit(options["limits"])
        if own_user is not None:
            os.setgroups([])
            os.setgid(own_user)
            os.setuid(own_user)  # of root: the real, the effective and the saved one
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if not options["namespaces"]:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o077)
        kept = options["kept"]
        _close_all(kept)
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        os.execve(options["command"][0], options["command"], options["environment"])
    except OSError as error:
        _fail(error)


def _limit(limits: dict[str, int]) -> None:
    import resource  # not on Windows, where this file is imported but not used

    wanted = {
        "RLIMIT_AS": limits["memory"], "RLIMIT_FSIZE": limits["disk"], "RLIMIT_CPU": limits["seconds"],
        "RLIMIT_NPROC": limits["processes"], "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 256, "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_MEMLOCK": 65536,
    }  # fmt: skip
    for name, value in wanted.items():
        number = getattr(resource, name, None)
        if number is None:
            continue
        most = resource.getrlimit(number)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        try:
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError) as error:
            if name != "RLIMIT_AS" or sys.platform == "linux":  # macOS refuses this one
                raise OSError(errno.EPERM, f"{name} cannot be set: {error}") from None


if __name__ == "__main__":
    main()
