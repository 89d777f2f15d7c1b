"""The broker of many nodes, over Valkey or Redis (ADR 0016)."""
