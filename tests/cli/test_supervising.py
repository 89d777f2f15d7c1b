"""`--workers` on the command line: what is refused, and where workers listen."""

import json
import os
import pty
import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from hubbub.cli.limits import number_of_workers
from tests.cli.commands import TIMEOUT, Command, hubbub
from tests.cli.conftest import Outcome

PLAIN = """
import os
async def greet(websocket):
    await websocket.send(f"{os.getpid()} {os.environ['HUBBUB_WORKER']}")
    await websocket.wait_closed()
"""
HUB = "from hubbub import Hub\nhub = Hub('memory:')\n"
# No embedded broker: handlers that are no hub need none.
NO_BROKER = ("--broker", "redis://127.0.0.1:1")
CONNECTIONS = 40


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("s")
    (path / "app.py").write_text(PLAIN)
    return path


def run(
    folder: Path, *arguments: str, fds: Sequence[int] = (), env: Mapping[str, str] | None = None
) -> AbstractContextManager[Command]:
    """Run two workers."""
    options = ("--workers", "2", *NO_BROKER)
    return hubbub("run", "app:greet", *options, *arguments, cwd=folder, fds=fds, env=env)


def greetings(open_one: Callable[[], ClientConnection]) -> set[str]:
    """Connect until both workers have answered."""
    found = set[str]()
    for _ in range(CONNECTIONS):
        with open_one() as websocket:
            found.add(str(websocket.recv(TIMEOUT)).split()[1])
        if len(found) == 2:
            break
    return found


def test_reload_and_workers_contradict_each_other(invoke: Callable[..., Outcome]) -> None:
    outcome = invoke("dev", "app:hub", "--workers", "2")

    assert outcome.code == 2
    assert "--reload and --workers 2 contradict each other" in outcome.stderr


def test_broker_for_one_process_is_refused(invoke: Callable[..., Outcome]) -> None:
    outcome = invoke("run", "app:hub", "--workers", "2", "--broker", "memory:")

    assert outcome.code == 2
    assert "--broker memory: is for one process, and --workers 2 are several" in outcome.stderr


def test_unknown_broker_is_refused_before_anything_starts(invoke: Callable[..., Outcome]) -> None:
    outcome = invoke("run", "app:hub", "--broker", "carrier-pigeon:")

    assert outcome.code == 1
    assert "is none of memory:" in outcome.stderr


@pytest.mark.parametrize("text", ["0", "513", "many"])
def test_impossible_number_of_workers_is_refused(text: str, invoke: Callable[..., Outcome]) -> None:
    outcome = invoke("run", "app:hub", "--workers", text)

    assert outcome.code == 2
    assert "and not 'auto'" in outcome.stderr


def test_auto_is_the_number_of_cores() -> None:
    assert number_of_workers("auto") == len(os.sched_getaffinity(0))


def test_hub_with_a_broker_of_its_own_for_one_process_is_refused_once(folder: Path) -> None:
    (folder / "app.py").write_text(HUB)
    with hubbub(
        "run", "app:hub", "--port", "0", "--workers", "2", *NO_BROKER, cwd=folder
    ) as command:
        assert command.wait() == 1
        assert command.stderr.text.count("error: --workers 2: the hub's broker (MemoryBroker)") == 1


def test_application_that_cannot_be_imported_is_said_once(folder: Path) -> None:
    (folder / "app.py").write_text("def (:\n")
    with run(folder, "--port", "0") as command:
        assert command.wait() == 1
        assert command.stderr.text.count("SyntaxError") == 1
        assert "Traceback" not in command.stderr.text
        assert command.stdout.text == ""


def test_taken_port_is_said_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run(folder, "--host", "127.0.0.1", "--port", str(port)) as command:
            assert command.wait() == 1
            assert command.stderr.text == (
                f"error: port {port} is already in use: choose another with --port"
            )


def test_workers_share_a_port_with_one_banner_and_number_their_logs(folder: Path) -> None:
    with run(folder, "--port", "0", "--log-format", "json") as command:
        ready = command.stderr.wait_for(r"server listening on 127.0.0.1:(\d+)", times=2)
        port = int(ready[1])
        assert greetings(lambda: connect(f"ws://127.0.0.1:{port}")) == {"1/2", "2/2"}
        # A second one by mistake is told, though the port can be shared.
        with run(folder, "--port", str(port)) as second:
            assert second.wait() == 1
        command.signal(signal.SIGINT)

        assert command.wait() == 0
        records = [json.loads(line) for line in command.stderr.text.splitlines()]
        assert {record.get("worker") for record in records} == {None, 1, 2}


def test_workers_share_a_unix_socket_and_systemd_is_told_their_state(folder: Path) -> None:
    path, manager = folder / "socket", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(TIMEOUT)
        env = {"NOTIFY_SOCKET": str(folder / "notify")}
        with run(folder, "--uds", str(path), env=env) as command:
            assert manager.recv(256) == b"READY=1"
            assert greetings(lambda: unix_connect(str(path))) <= {"1/2", "2/2"}
            command.signal(signal.SIGHUP)
            assert manager.recv(256).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(256) == b"READY=1"
            assert greetings(lambda: unix_connect(str(path))) <= {"1/2", "2/2"}
            command.signal(signal.SIGTERM)
            assert manager.recv(256) == b"STOPPING=1"

            assert command.wait() == 0
            assert not path.exists()
            assert len(re.findall("Ctrl.C stops it", command.stdout.text)) == 1


def test_workers_share_an_inherited_socket(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)
        port = listening.getsockname()[1]
        fd = listening.fileno()
        with run(folder, "--fd", str(fd), fds=[fd]) as command:
            command.stdout.wait_for("Ctrl.C stops it")
            assert greetings(lambda: connect(f"ws://127.0.0.1:{port}")) <= {"1/2", "2/2"}


def test_second_signal_ends_everything_at_once(folder: Path) -> None:
    (folder / "app.py").write_text(
        PLAIN.replace("await websocket.wait_closed()", "import time; time.sleep(60)")
    )
    with run(folder, "--port", "0") as command:
        with connect(command.url) as websocket:
            pid = int(str(websocket.recv(TIMEOUT)).split()[0])
            command.signal(signal.SIGTERM)
            command.stderr.wait_for("a second signal ends them at once")
            command.signal(signal.SIGTERM)

            assert command.wait() == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            wait_gone(pid)


def wait_gone(pid: int) -> None:
    for _ in range(1_000):
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            raise ProcessLookupError


def test_demo_serves_its_pages_and_chat_with_workers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    temporary = tmp_path_factory.mktemp("d")
    arguments = ("demo", "--port", "0", "--workers", "2")
    with hubbub(*arguments, env={"TMPDIR": str(temporary)}) as command:
        url = f"http://127.0.0.1:{command.port}"
        for path in ("/", "/chat/", "/live/"):
            assert httpx.get(url + path, timeout=TIMEOUT).status_code == 200
        with connect(command.url) as websocket:
            assert websocket.recv(TIMEOUT) == "Hello World!"
        command.signal(signal.SIGTERM)

        assert command.wait() == 0
        assert "error" not in command.stderr.text.lower()
    assert list(temporary.iterdir()) == []


def test_closed_terminal_stops_the_service_instead_of_replacing_workers(folder: Path) -> None:
    # A terminal of its own: the child is the leader of its session, as a login shell's job is not,
    # but gets SIGHUP and loses the terminal in the same way.
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["HUBBUB_BROKER"] = NO_BROKER[1]
        command = [sys.executable, "-P", "-m", "hubbub", "run", "app:greet"]
        os.execv(sys.executable, [*command, "--port", "0", "--workers", "2"])
    said = b""
    while b"Ctrl+C stops it" not in said:
        assert select.select([terminal], [], [], TIMEOUT)[0], said
        said += os.read(terminal, 65_536)
    workers = psutil.Process(pid).children()
    os.close(terminal)
    # Its logs have nowhere to go; that must not matter.
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert len(workers) == 2
    assert not [worker for worker in workers if worker.is_running()]


def test_single_process_drains_its_hub_and_tells_systemd(folder: Path) -> None:
    (folder / "app.py").write_text("from hubbub import Hub\nhub = Hub()\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(TIMEOUT)
        env = {"NOTIFY_SOCKET": str(folder / "notify")}
        with hubbub("run", "app:hub", "--port", "0", cwd=folder, env=env) as command:
            assert manager.recv(256) == b"READY=1"
            with connect(command.url) as websocket:
                websocket.send('{"id":1,"connect":{}}')
                assert "connect" in str(websocket.recv(TIMEOUT))
                command.signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed) as closed:
                    websocket.recv(TIMEOUT)
            assert manager.recv(256) == b"STOPPING=1"

            assert command.wait() == 0
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 3001
