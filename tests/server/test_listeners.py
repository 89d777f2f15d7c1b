"""One server on several sockets that were made before."""

import socket

from websockets.asyncio.client import connect

from hubbub import ServerConnection, broadcast, serve

HOST = "127.0.0.1"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_server_listens_on_all_its_sockets() -> None:
    socks = [socket.create_server((HOST, 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in socks]
    async with serve(echo, sock=socks) as server:
        assert [sock.getsockname()[1] for sock in server.sockets] == ports
        assert server.is_serving()
        assert server.get_loop() is not None
        clients = [await connect(f"ws://{HOST}:{port}", proxy=None) for port in ports]
        # Their connections are in one set.
        broadcast(server.connections, "to all")
        for client in clients:
            assert await client.recv() == "to all"
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1001

    assert not server.is_serving()


async def test_server_starts_serving_on_all_its_sockets_later() -> None:
    socks = [socket.create_server((HOST, 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in socks]
    async with serve(echo, sock=socks, start_serving=False) as server:
        assert not server.is_serving()
        await server.start_serving()
        for port in ports:
            async with connect(f"ws://{HOST}:{port}", proxy=None) as client:
                await client.send("hi")
                assert await client.recv() == "hi"


async def test_one_socket_in_a_sequence_is_as_one() -> None:
    async with serve(echo, sock=[socket.create_server((HOST, 0))]) as server:
        assert len(server.sockets) == 1
