"""A small machine for classic BPF, as seccomp runs it: enough to try a filter of any processor on this one.

Source: linux/filter.h, and `struct seccomp_data` of linux/seccomp.h.
"""

import struct
from collections.abc import Sequence

from starter.sandbox.lockdown import Instruction

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def run(program: Sequence[Instruction], arch: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Return the verdict of a filter on one system call.

    Args:
        program: the filter.
        arch: AUDIT_ARCH_* of the caller.
        number: of the system call, 32 bits.
        arguments: up to six, 64 bits each; the rest are 0.
    """
    data = struct.pack("<IIQ6Q", number, arch, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    accumulator = place = 0
    while True:
        step = program[place]
        place += 1
        match step.code:
            case 0x20:  # load a word of the data
                (accumulator,) = struct.unpack_from("<I", data, step.operand)
            case 0x54:  # and
                accumulator &= step.operand
            case 0x15:  # jump if equal
                place += step.if_true if accumulator == step.operand else step.if_false
            case 0x35:  # jump if at least
                place += step.if_true if accumulator >= step.operand else step.if_false
            case 0x06:  # return
                return step.operand
            case other:
                raise AssertionError(f"no such instruction: {other:#x}")
