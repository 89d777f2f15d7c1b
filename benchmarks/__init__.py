"""hubbub beside other WebSocket servers, on this machine, in one run: `python -m benchmarks`."""
