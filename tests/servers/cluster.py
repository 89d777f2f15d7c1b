"""A cluster of Valkey servers on the loopback, for tests."""

import time
from types import TracebackType
from typing import Self

from tests.servers.valkey import START_TIMEOUT, ValkeyServer, free_port

__all__ = ["ValkeyCluster"]

SLOTS = 16_384


class ValkeyCluster:
    """Masters that share the slots.

    Attributes:
        nodes: The masters, in the order of their slots.
    """

    def __init__(self, count: int = 3) -> None:
        self.nodes = [
            ValkeyServer(
                tcp=True,
                options={
                    "cluster-enabled": "yes",
                    "cluster-port": str(free_port()),
                    "cluster-node-timeout": "2000",
                    # Else all slots fail with those of a server that is silent for that long.
                    "cluster-require-full-coverage": "no",
                    "cluster-config-file": "nodes.conf",
                },
            )
            for _ in range(count)
        ]

    @property
    def url(self) -> str:
        """URL for `Hub(broker=...)`."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start all of them, and wait until they agree."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for node in others:
            bus = node.command("CONFIG", "GET", "cluster-port")[b"cluster-port"].decode()
            first.command("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
        step = SLOTS // len(self.nodes)
        for number, node in enumerate(self.nodes):
            last = SLOTS if node is self.nodes[-1] else step * (number + 1)
            node.command("CLUSTER", "ADDSLOTSRANGE", step * number, last - 1)
        deadline = time.monotonic() + START_TIMEOUT
        while not all(self._agrees(node) for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster did not come together"
            time.sleep(0.02)

    def _agrees(self, node: ValkeyServer) -> bool:
        info = node.command("CLUSTER", "INFO")
        text = info if isinstance(info, str) else bytes(info).decode()
        return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.nodes)}" in text

    def move(self, slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
        """Give a slot and its keys to another master, as `--cluster reshard` does."""
        identities = {node: self._id(node) for node in self.nodes}
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", identities[source])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", identities[target])
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", identities[target])

    @staticmethod
    def _id(node: ValkeyServer) -> str:
        identity = node.command("CLUSTER", "MYID")
        return identity if isinstance(identity, str) else bytes(identity).decode()

    def close(self) -> None:
        """End all of them. Idempotent."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
