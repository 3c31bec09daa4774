"""The service behind /ai, as the settings have it."""

import gevent

from mintflow_realtime.ai_backends.choice import choose
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.services.ai.limits import Limits
from mintflow_realtime.services.ai.service import Ai, AiRooms
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.ai.store import AiStore


def make_ai(settings: Settings, publisher: Publisher, store: AiStore, rooms: AiRooms) -> Ai:
    """Return the service, which has no backend where none is configured."""
    backend = choose(
        settings.ai_backend,
        api_key=settings.openai_api_key,
        base_url=settings.openai_base_url,
        default_model=settings.openai_default_model,
        system_prompt=settings.openai_system_prompt,
        timeout_seconds=settings.ai_timeout,
    )
    return Ai(
        publisher,
        store,
        rooms,
        backend,
        gevent.spawn,
        max_concurrent=settings.ai_max_concurrent,
        limits=Limits.of(settings.ai_timeout, settings.ai_keep),
    )
