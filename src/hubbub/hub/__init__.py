"""The hub: channels with history, recovery and presence, in the Centrifuge client protocol."""

from hubbub.hub.channel import Channel
from hubbub.hub.client import Client
from hubbub.hub.hub import Hub
from hubbub.hub.listening import Listening

__all__ = ["Channel", "Client", "Hub", "Listening"]
