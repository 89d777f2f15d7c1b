"""No WebSocket server: it answers each known frame from a dict, as fast as Python can.

How fast the load side goes against it is the ceiling of the load side: whatever a server under
test stays below was not limited by the load.
"""

import select
import socket

from benchmarks.wire import CLOSE, HANDSHAKE_RESPONSE, parse_frame, serialize_frame

GOODBYE = bytes((0x80 | CLOSE,))


class Answers(dict[bytes, bytes]):
    """What to answer to the bytes of one read; worked out at the first sight of them."""

    def __missing__(self, data: bytes) -> bytes:
        if data.startswith(b"GET "):
            answer = HANDSHAKE_RESPONSE
        else:
            frame = parse_frame(data)
            if frame is None:
                raise ValueError("expected a whole frame or upgrade request in each read")
            answer = serialize_frame(frame.opcode, frame.payload)
        self[data] = answer
        return answer


def serve(listener: socket.socket) -> None:
    answers = Answers()
    connections: dict[int, socket.socket] = {}
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poller.poll():
            connection = connections.get(fd)
            if connection is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poller.register(connection, select.EPOLLIN)
            elif data := connection.recv(4096):
                answer = answers[data]
                connection.send(answer)
                if answer.startswith(GOODBYE):
                    connections.pop(fd).close()
            else:
                connections.pop(fd).close()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
