"""Brokers: what carries publications between nodes and keeps history. `base` is the contract."""
