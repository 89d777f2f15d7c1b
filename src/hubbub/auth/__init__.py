"""Admission: tokens that say who a client is, origins of browsers, rates of commands.

Import the modules; `tokens` and what it stands on load the `cryptography` package.
"""
