"""Serving to the end, and certificates that cannot be used, told before the server starts."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from hubbub.cli.failure import Failure
from hubbub.cli.serving import server_tls
from tests.cli.commands import TIMEOUT
from tests.cli.conftest import Certificate

STUBBORN = """
import asyncio, logging
from hubbub.cli.listening import TcpAddress
from hubbub.cli.serving import serve_application

async def never_end(websocket):
    await websocket.send("ready")
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)

logging.basicConfig(level=logging.INFO)
serve_application(
    never_end,
    TcpAddress("127.0.0.1", 0),
    None,
    lambda listener: print(listener.location, flush=True),
    shutdown_timeout=0.1,
)
print("ended", flush=True)
"""


def test_handlers_that_do_not_end_are_cancelled() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            location = process.stdout.readline().strip()
            with connect(f"ws://{location}") as websocket:
                websocket.recv(TIMEOUT)
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed) as closed:
                    websocket.recv(TIMEOUT)
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert stdout == "cancelled\nended\n"
    assert "handlers still ran after 0.1 s and were cancelled" in stderr
    assert "Traceback" not in stderr


def failure(certfile: Path, keyfile: Path | None) -> str:
    with pytest.raises(Failure) as raised:
        server_tls(str(certfile), None if keyfile is None else str(keyfile))
    return str(raised.value)


def test_no_certificate_means_no_tls() -> None:
    assert server_tls(None, None) is None


def test_certificate_file_may_hold_the_key(certificate: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(certificate.key.read_text() + certificate.chain.read_text())

    assert server_tls(str(both), None) is not None


def test_missing_file_names_the_option(certificate: Certificate, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"

    assert failure(missing, certificate.key) == (
        f"--ssl-certfile: cannot read '{missing}': No such file or directory"
    )
    assert failure(certificate.chain, missing) == (
        f"--ssl-keyfile: cannot read '{missing}': No such file or directory"
    )


def test_file_without_pem_names_both_options(certificate: Certificate, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    assert failure(junk, certificate.key) == (
        f"no certificate and key in --ssl-certfile '{junk}', --ssl-keyfile '{certificate.key}'"
    )
    assert failure(junk, None).startswith(f"no certificate and key in --ssl-certfile '{junk}'")


def test_key_of_another_certificate_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(other)

    assert failure(certificate.chain, other) == (
        f"the key in --ssl-keyfile '{other}' is not the key of --ssl-certfile '{certificate.chain}'"
    )


def test_encrypted_key_is_refused_without_asking(certificate: Certificate, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    assert failure(certificate.chain, encrypted) == (
        f"the key in --ssl-keyfile '{encrypted}' is encrypted: decrypt it first"
    )
