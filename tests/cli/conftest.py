"""Command lines that run in this process, and certificates."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from hubbub.cli import main

VARIABLES = (
    *("HOST", "PORT", "UDS", "FD", "RELOAD", "BROKER", "WORKERS", "DRAIN", "LOG_LEVEL"),
    *("LOG_FORMAT", "WORKER", "WORKER_SOCKETS"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command line that ended said."""

    code: int | None
    stdout: str
    stderr: str


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line that ends by itself without an event loop."""

    def invoke(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, said.out, said.err)

    return invoke


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither options nor colours from the environment of whoever runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(f"HUBBUB_{name}", raising=False)
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Undo what a command line run in this process configured: its stream is gone afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    loggers = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(loggers.get(name, logging.NOTSET))


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: of the authority, of the server named localhost, and its key."""

    authority: Path
    chain: Path
    key: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost that nobody trusts unless told to."""
    directory = tmp_path_factory.mktemp("certificate")
    files = Certificate(directory / "ca.pem", directory / "chain.pem", directory / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(files.authority)
    issued.private_key_pem.write_to_path(files.key)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(files.chain, append=True)
    return files
