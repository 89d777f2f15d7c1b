"""One run of Autobahn's cases: a subject in a child process, and kosoku's verdicts on it."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.programs import ROOT, Program
from tests.timing import MS

__all__ = ["REPORTS", "Mode", "Subject", "Verdict", "case_key", "run_cases"]

REPORTS = ROOT / "artefacts" / "autobahn"

# All 216 cases of compression take five minutes on two cores.
RUN_TIMEOUT = 1_800_000 * MS

Mode = Literal["plain", "deflate"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under test.

    Attributes:
        mode: "plain" without compression, "deflate" with permessage-deflate.
    """

    library: Literal["hubbub", "websockets"]
    mode: Mode

    def __str__(self) -> str:
        return f"{self.library} {self.mode}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Autobahn found in one case.

    Attributes:
        behavior: OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED or FAILED (ERROR: it did not run).
        close: The same of the closing handshake: OK, INFORMATIONAL, FAILED, UNCLEAN, WRONG CODE,
            FAILED BY CLIENT.
        remote_close_code: What the server sent; `None`: no close frame.
    """

    behavior: str
    close: str
    remote_close_code: int | None

    @property
    def failed(self) -> bool:
        """Whether Autobahn calls the server non-conforming, in messages or in closing."""
        return self.behavior in ("FAILED", "ERROR") or self.close not in ("OK", "INFORMATIONAL")


def run_cases(
    subject: Subject,
    cases: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    concurrency: int = 2,
    max_fragments: int | None = None,
    reports: Path = REPORTS,
) -> Mapping[str, Verdict]:
    """Run Autobahn's cases against a subject of its own.

    kosoku runs in a process of its own as well: it changes `binascii` and puts modules named
    `pkg_resources` and `autobahn` on the path, for the sake of Autobahn's Python 2 files.

    Args:
        subject: Started here, and stopped.
        cases: Ids or globs such as "9.*". Empty: all 517.
        exclude: Ids or globs to leave out.
        concurrency: How many cases at a time.
        max_fragments: In one message. `None`: the default of `websockets`, 4096.
        reports: Autobahn's reports are written to a directory below.

    Returns:
        A verdict for each case, in the order of the cases.
    """
    directory = reports / str(subject).replace(" ", "-")
    index = directory / "index.json"
    index.unlink(missing_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("kosoku")]
    for case in cases:
        command += ["--include", case]
    for case in exclude:
        command += ["--exclude", case]
    command += ["--parallelism", str(concurrency), "--outdir", directory]

    environment = {} if max_fragments is None else {"WEBSOCKETS_MAX_FRAGMENTS": str(max_fragments)}
    server = Program(
        "-m", "tests.autobahn.server", subject.library, subject.mode, environment=environment
    )
    with server:
        port = server.read_line()
        # It exits with 1 when a case failed, which is a result, and when it could not run at all.
        done = subprocess.run(
            [*command, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=RUN_TIMEOUT
        )
        assert server.process.poll() is None, f"{subject} died: {server.read_stderr()}"
    if not index.exists():
        raise RuntimeError(f"kosoku failed: {done.stderr}")

    (verdicts,) = json.loads(index.read_text(encoding="utf-8")).values()
    return {
        case: Verdict(
            verdicts[case]["behavior"],
            verdicts[case]["behaviorClose"],
            verdicts[case]["remoteCloseCode"],
        )
        for case in sorted(verdicts, key=case_key)
    }


def case_key(case: str) -> tuple[int, ...]:
    """Return what sorts cases as Autobahn does: 1.2.10 comes after 1.2.9."""
    return tuple(map(int, case.split(".")))
