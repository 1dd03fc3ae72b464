"""Numbers of the system calls a worker's filter knows, by architecture. Pure.

From Linux's ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h`` (which arm64 uses).
The tests compare them with libseccomp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

_REFUSED: Final = """
# Sockets: a worker has one, and makes no other.
socket=41/198 connect=42/203 bind=49/200 listen=50/201 accept=43/202 accept4=288/242
# Other programs.
fork=57/- vfork=58/- execve=59/221 execveat=322/281
# Other processes: their memory, their descriptors, signals, shared memory, queues.
ptrace=101/117 process_vm_readv=310/270 process_vm_writev=311/271 process_madvise=440/440 kcmp=312/272
pidfd_open=434/434 pidfd_getfd=438/438 pidfd_send_signal=424/424 tkill=200/130 rt_sigqueueinfo=129/138
rt_tgsigqueueinfo=297/240 shmget=29/194 shmat=30/196 shmctl=31/195 semget=64/190 semop=65/193 semtimedop=220/192
semctl=66/191 msgget=68/186 msgsnd=69/189 msgrcv=70/188 msgctl=71/187 mq_open=240/180 mq_unlink=241/181
# Folders and the names, rights and times of files.
creat=85/- unlink=87/- unlinkat=263/35 rename=82/- renameat=264/38 renameat2=316/276 mkdir=83/- mkdirat=258/34
rmdir=84/- link=86/- linkat=265/37 symlink=88/- symlinkat=266/36 mknod=133/- mknodat=259/33 truncate=76/45
chmod=90/- fchmod=91/52 fchmodat=268/53 fchmodat2=452/452 chown=92/- lchown=94/- fchown=93/55 fchownat=260/54
utime=132/- utimes=235/- futimesat=261/- utimensat=280/88 setxattr=188/5 lsetxattr=189/6 fsetxattr=190/7
setxattrat=463/463 removexattr=197/14 lremovexattr=198/15 fremovexattr=199/16 removexattrat=466/466
file_setattr=469/469 open_by_handle_at=304/265 name_to_handle_at=303/264
# The machine, and doors into the kernel that were often left ajar.
mount=165/40 umount2=166/39 pivot_root=155/41 chroot=161/51 move_mount=429/429 fsopen=430/430 fsconfig=431/431
fsmount=432/432 fspick=433/433 open_tree=428/428 open_tree_attr=467/467 mount_setattr=442/442 unshare=272/97
setns=308/268 keyctl=250/219 add_key=248/217 request_key=249/218 bpf=321/280 perf_event_open=298/241
userfaultfd=323/282 io_uring_setup=425/425 io_uring_enter=426/426 io_uring_register=427/427 fanotify_init=300/262
fanotify_mark=301/263 kexec_load=246/104 kexec_file_load=320/294 init_module=175/105 finit_module=313/273
delete_module=176/106 reboot=169/142 swapon=167/224 swapoff=168/225 settimeofday=164/170 clock_settime=227/112
clock_adjtime=305/266 adjtimex=159/171 sethostname=170/161 setdomainname=171/162 acct=163/89 quotactl=179/60
quotactl_fd=443/443 syslog=103/116 iopl=172/- ioperm=173/- modify_ldt=154/- personality=135/92 vhangup=153/58
nfsservctl=180/42 lookup_dcookie=212/18
# Other users.
setuid=105/146 setgid=106/144 setreuid=113/145 setregid=114/143 setresuid=117/147 setresgid=119/149 setfsuid=122/151
setfsgid=123/152 setgroups=116/159 capset=126/91
"""
"""``name=x86_64/aarch64``; ``-`` where the architecture has no such call."""
_JUDGED: Final = """
clone=56/220 clone3=435/435 kill=62/129 tgkill=234/131 prlimit64=302/261
"""
"""Calls that are refused or not by their arguments."""


class Machine(NamedTuple):
    """One architecture: ``audit``, its AUDIT_ARCH of ``linux/audit.h``; its numbers by name of the call.

    ``seccomp`` is the number of the call that installs a filter. ``foreign`` is the first number of a second table that
    the kernel serves to the same architecture (x32's), 0 where there is none.
    """

    audit: int
    seccomp: int
    foreign: int
    refused: Mapping[str, int]
    judged: Mapping[str, int]


def _numbers(table: str, column: int) -> dict[str, int]:
    words = [word for line in table.splitlines() if not line.startswith("#") for word in line.split()]
    pairs = [(name, numbers.split("/")[column]) for name, _, numbers in (word.partition("=") for word in words)]
    return {name: int(number) for name, number in pairs if number != "-"}


MACHINES: Final[Mapping[str, Machine]] = {
    "x86_64": Machine(0xC000003E, 317, 1 << 30, _numbers(_REFUSED, 0), _numbers(_JUDGED, 0)),
    "aarch64": Machine(0xC00000B7, 277, 0, _numbers(_REFUSED, 1), _numbers(_JUDGED, 1)),
}
"""By ``platform.machine()``. Both are little-endian, which the filter relies on."""
