"""The Centrifuge client protocol, version 2: messages, wire formats, patches, tags filters.

Pure: bytes in, messages out, and back. Import the modules; `protobuf` needs an extra.
"""
