"""NATS with its WebSocket listener, on ports of its own choice.

This program becomes the server. A child of it that waits for the ports stays out of the server's
family, so that only NATS is accounted for.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
listen: "127.0.0.1:-1"
websocket {
    listen: "127.0.0.1:-1"
    no_tls: true
    compression: false
}
"""
PATIENCE = 15.0


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="hubbub-bench-nats-"))
    (folder / "nats.conf").write_text(CONFIG)
    server = os.getpid()
    if os.fork() == 0:
        # A child of init, once the one between has ended.
        if os.fork() == 0:
            tell_port(folder, server)
        os._exit(0)
    os.wait()
    binary = sys.argv[1]
    os.execv(binary, [binary, "-c", str(folder / "nats.conf"), "--ports_file_dir", str(folder)])


def tell_port(folder: Path, server: int) -> None:
    """Print the port of the WebSocket listener as soon as the server says it, then clean up."""
    deadline = time.monotonic() + PATIENCE
    path = folder / f"{Path(sys.argv[1]).name}_{server}.ports"
    try:
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if path.exists() and (text := path.read_text()).strip():
                (url,) = json.loads(text)["websocket"]
                print(url.rpartition(":")[2], flush=True)
                return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
