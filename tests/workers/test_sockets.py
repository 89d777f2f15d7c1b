"""Listening sockets that outlive who listens."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from hubbub.workers.sockets import ListeningSockets, bind_shared
from tests.programs import reserved_port
from tests.timing import MS

HOST = "127.0.0.1"
TIMEOUT = 5_000 * MS
# So many that the kernel gives each of two queues some.
CONNECTIONS = 64


@pytest.fixture
def sockets() -> Iterator[ListeningSockets]:
    """Those of two workers on one port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        made = ListeningSockets(2, lambda: [bind_shared(HOST, port, group=True)])
    with closing(made):
        yield made


def connect_all(port: int) -> list[socket.socket]:
    return [socket.create_connection((HOST, port), TIMEOUT) for _ in range(CONNECTIONS)]


def test_successor_takes_on_what_waits_for_a_worker_that_ended(sockets: ListeningSockets) -> None:
    port = sockets.of(1)[0].getsockname()[1]
    workers = [sockets.of(number)[0].dup() for number in (1, 2)]
    for worker in workers:
        worker.listen(CONNECTIONS)
    clients = connect_all(port)
    workers[0].close()  # it has accepted none
    workers[0] = sockets.of(1)[0].dup()
    accepted: list[socket.socket] = []
    for worker in workers:
        worker.setblocking(False)
        while True:
            try:
                accepted.append(worker.accept()[0])
            except BlockingIOError:
                break
    for each in (*accepted, *clients, *workers):
        each.close()

    assert len(accepted) == CONNECTIONS


def test_renewed_queue_gets_no_connections_until_somebody_listens(
    sockets: ListeningSockets,
) -> None:
    port = sockets.of(1)[0].getsockname()[1]
    for number in (1, 2):
        sockets.of(number)[0].listen(CONNECTIONS)
    sockets.renew(1)
    clients = connect_all(port)
    other = sockets.of(2)[0]
    other.settimeout(TIMEOUT)
    for each in clients:
        other.accept()[0].close()
        each.close()

    assert sockets.of(1)[0].getsockname() == other.getsockname()


def test_all_share_one_where_queues_cannot_be_told_apart() -> None:
    with reserved_port() as port, bind_shared(HOST, port, group=False) as one:
        sockets = ListeningSockets(3, None, [one])
        sockets.renew(2)

        assert list(sockets.of(1)) == list(sockets.of(2)) == [one]
        sockets.close()
        assert one.fileno() == -1


def test_taken_port_is_an_error_and_leaks_nothing() -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(OSError, match="in use"):
        ListeningSockets(2, lambda: [bind_shared(HOST, taken.getsockname()[1], group=True)])
