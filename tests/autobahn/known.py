"""What Autobahn may say of hubbub other than OK; docs/topics/autobahn.md says why."""

from collections.abc import Mapping

__all__ = ["FRAGMENTS", "KNOWN", "SELECTED_COMPRESSION", "UNCOMPRESSED"]

# Autobahn's sections, as globs. There is no section 8 and no 11 any more.
UNCOMPRESSED = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")

# What a test run can afford of sections 12 and 13, compression: each kind of data and of parameters
# with messages of 16, 256 and 4096 bytes; 8 KiB in fragments of 256 bytes with each kind of
# parameters; 128 KiB in fragments of 256 and of 32 KiB.
# (Ids, not globs: kosoku takes "12.*.1" for 12.1.10 as well.)
SELECTED_COMPRESSION = (
    *(f"12.{data}.{size}" for data in range(1, 6) for size in (1, 3, 5)),
    *(f"13.{parameters}.{size}" for parameters in range(1, 8) for size in (1, 3, 5, 11)),
    *("12.1.11", "12.1.15", "12.1.18"),
)

# A valid message, then an invalid frame. Whether the echo of the first is sent before the second
# is seen depends on whether the two arrive together.
ECHO_LOST = ("3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15")

# Invalid UTF-8 in a fragment: found when the message is whole, not when the fragment arrives.
LATE_UTF8 = ("6.4.1", "6.4.2", "6.4.3", "6.4.4")

# A close frame inside a fragmented message: answered with 1002, Autobahn wants 1000.
CLOSE_IN_MESSAGE = ("7.1.5",)

# RFC 6455 leaves it open.
UNSPECIFIED = ("7.1.6", "7.13.1", "7.13.2")

# More fragments in a message than WEBSOCKETS_MAX_FRAGMENTS (4096) allows.
FRAGMENTS = ("9.3.1", "9.3.2", "9.4.1", "9.4.2")

KNOWN: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(ECHO_LOST, frozenset({"NON-STRICT", "OK"})),
    **dict.fromkeys(LATE_UTF8, frozenset({"NON-STRICT"})),
    **dict.fromkeys(CLOSE_IN_MESSAGE, frozenset({"FAILED"})),
    **dict.fromkeys(UNSPECIFIED, frozenset({"INFORMATIONAL"})),
    **dict.fromkeys(FRAGMENTS, frozenset({"FAILED"})),
}
