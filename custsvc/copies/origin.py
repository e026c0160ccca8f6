"""Where a copy's events come from: always the same source, through the same topic.

A copy that applied events of two sources would equal neither; one that applied events of its own database
would send changes round in circles. So the copy remembers its first source, and refuses another one. It also
refuses a recreated topic: unread events of the old one would be missing silently.
"""

from __future__ import annotations

from ..config import Settings
from ..domain.events import SOURCE_HEADER
from ..errors import ConfigurationError, PositionLost
from ..kafka import client as kafka
from ..kafka.record import Message, header
from ..kafka.topics import layout
from ..ports.facts import Fact
from ..ports.store import Store


class Origin:
    """The source and the topic of one copy."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._facts = store.facts
        self._itself = store.outbox.source()
        self._source: bytes | None = None

    def check_topic(self) -> None:
        """Raise PositionLost if the topic is not the one that this copy was filled from.

        Raise it too if the topic once lacked the record that the copy had to read next: the topic may have
        grown since, and then looks complete.
        """
        topic = self._settings.topic_updates
        topic_id, _ = layout(kafka.admin(self._settings), topic, self._settings.kafka_servers)
        was = self._facts.keep(Fact.COPY_TOPIC + topic, topic_id) if topic_id else ""
        if was and was != topic_id:
            raise PositionLost(f"the topic {topic} was deleted and created again since this copy was filled")
        if loss := self._facts.get(Fact.COPY_LOST + topic):
            raise PositionLost(loss)

    def remember_loss(self, loss: PositionLost) -> None:
        """Note that this copy lacks events, until it is rebuilt."""
        self._facts.keep(Fact.COPY_LOST + self._settings.topic_updates, str(loss))

    def check(self, messages: list[Message]) -> None:
        """Raise ConfigurationError if the first or last record of a batch comes from another source."""
        for message in messages[:1] + messages[-1:]:
            source = header(message, SOURCE_HEADER)
            if source is not None and source != self._source:
                self._meet(source)

    def _meet(self, source: bytes) -> None:
        name = source.decode("utf-8", "replace")
        if name == self._itself:
            raise ConfigurationError(
                f"the events on {self._settings.topic_updates} come from this very database ({name})",
                fix="use another database for the copy, or give each direction its own topic",
            )
        known = self._facts.keep(Fact.COPY_OF, name)
        if known != name:
            raise ConfigurationError(
                f"{self._settings.topic_updates} has events of {name}, and this is a copy of {known}",
                fix="give each source its own topic; or, if the source has moved, rebuild the copy: "
                "custsvc replicate --rebuild",
            )
        self._source = source


def is_another_topic(settings: Settings, store: Store) -> bool:
    """Whether the topic was recreated since the copy was filled from it; False if that is unknown."""
    topic = settings.topic_updates
    topic_id, _ = layout(kafka.admin(settings), topic, settings.kafka_servers)
    return bool(topic_id) and store.facts.get(Fact.COPY_TOPIC + topic) not in (None, topic_id)


def forget(settings: Settings, store: Store) -> None:
    """Forget the old source and topic: the copy was rebuilt from the current ones."""
    store.facts.drop(Fact.COPY_OF)
    store.facts.drop(Fact.COPY_TOPIC + settings.topic_updates)
    store.facts.drop(Fact.COPY_LOST + settings.topic_updates)
