"""A worker of Django Channels with channels_redis: `django_channels LAYER PORT BROKER`.

The consumer is the one of the tutorial of Channels, with an acknowledgement for who publishes.
LAYER is core.RedisChannelLayer or pubsub.RedisPubSubChannelLayer.
"""
# channels comes with the dependency group "bench", which `make test` does not need.
# mypy: disable-error-code="import-not-found,import-untyped,misc"

import json
import sys
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

from benchmarks.sides.uvicorn_worker import serve

LAYER, PORT, BROKER = sys.argv[1:]


class Room(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"message": event["message"]}))


class Publisher(AsyncWebsocketConsumer):
    async def receive(self, text_data: str) -> None:
        data = json.loads(text_data)
        await self.channel_layer.group_send(
            data["group"], {"type": "chat.message", "message": data["message"]}
        )
        await self.send(text_data=json.dumps({"ack": data["id"]}))


def main() -> None:
    settings.configure(
        CHANNEL_LAYERS={
            "default": {"BACKEND": f"channels_redis.{LAYER}", "CONFIG": {"hosts": [BROKER]}}
        }
    )
    django.setup()
    routes = [path("subscribe/<group>", Room.as_asgi()), path("publish", Publisher.as_asgi())]
    serve(ProtocolTypeRouter({"websocket": URLRouter(routes)}), int(PORT))


if __name__ == "__main__":
    main()
