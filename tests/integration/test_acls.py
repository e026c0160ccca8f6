"""What `custsvc topics acls` prints is what each role needs on Kafka, and no less would do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Final

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from custsvc.config import Settings
from custsvc.copies.pipeline import steps
from custsvc.doctor.access import kafka_rights
from custsvc.doctor.checks import addresses
from custsvc.domain.customers import Fields
from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.kafka import acls, offsets, topics
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher, Record, partition_of
from custsvc.notify.run import run_notify
from custsvc.ports.store import Store
from custsvc.relay.grow import Grow, drop_old
from custsvc.relay.growth import growth_of
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.background import in_background
from tests.conftest import Databases, Servers, open_database
from tests.integration.secure_kafka import LIMITED, PASSWORD, SecureKafka, bindings
from tests.waiting import until

from .conftest import Workers

SCRAM = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.password": PASSWORD}
REFUSED = (CustsvcError, KafkaException)
# Not the broker's own: whoever may not see the configuration of a topic takes that one.
LIMIT = 2_000_000
# The partition, of two, of the record that `write` sends.
_HOME = partition_of(b"1", 2)


@pytest.fixture
def everybody(secure: SecureKafka) -> Settings:
    """The settings of somebody who may do everything, with topics of this test's alone."""
    mine = uuid.uuid4().hex[:8]
    names = {f"topic_{kind}": f"{kind}-{mine}" for kind in ("updates", "notify", "failed", "dead")}
    return secure.as_admin().replace(partitions=2, group_prefix=f"custsvc-{mine}-", **names)


def as_user(secure: SecureKafka, settings: Settings, user: str) -> Settings:
    return settings.replace(kafka=secure.at("sasl_port"), kafka_options={**SCRAM, "sasl.username": user})


def allow(secure: SecureKafka, settings: Settings, role: acls.Role, user: str) -> None:
    secure.allow([each for need in acls.needs(settings, role) for each in bindings(need, user)])


# -- each operation ---------------------------------------------------------------------------------


def read(settings: Settings, topic: str, group: str) -> None:
    with closing(kafka.consumer(settings, group)) as client:
        client.assign([TopicPartition(topic, part, 0) for part in topics.partitions(client, topic, "")])
        (found,) = until("something comes", lambda: client.consume(1, 0.5))
        while found.error() is not None and found.error().code() == KafkaError._PARTITION_EOF:
            (found,) = until("something comes", lambda: client.consume(1, 0.5))
        if found.error() is not None:
            raise KafkaException(found.error())


def write(settings: Settings, topic: str) -> None:
    with Publisher(settings) as publisher:
        publisher.send(topic, [Record(b"1", b"{}", [])])


def see_limit(settings: Settings, topic: str) -> None:
    if topics.record_limit(kafka.admin(settings), topic) != LIMIT:
        raise CustsvcError("the configuration is hidden")


def see(settings: Settings, topic: str) -> None:
    if topic not in {each.name for each in topics.describe(settings).topics if each.partitions}:
        raise CustsvcError("the topic is hidden")


def alter(settings: Settings, topic: str) -> None:
    topics.add_partitions(kafka.admin(settings), topic, 3, settings.kafka_servers)


def alter_configs(settings: Settings, topic: str) -> None:
    topics.delete_before(kafka.admin(settings), topic, {}, settings.kafka_servers)


def delete(settings: Settings, topic: str) -> None:
    topics.delete_before(kafka.admin(settings), topic, {_HOME: 1}, settings.kafka_servers)


_WORK: Final[Mapping[str, Callable[[Settings, str], None]]] = {
    "Write": write,
    "DescribeConfigs": see_limit,
    "Describe": see,
    "Alter": alter,
    "AlterConfigs": alter_configs,
    "Delete": delete,
}


def of_group(settings: Settings, start: str, operation: str) -> None:
    topic = settings.topic_updates
    with closing(kafka.consumer(settings, f"{start}x")) as client:
        offsets.committed(client, topic, [0], settings.kafka_servers)
        if operation == "Read":
            client.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)


def do(settings: Settings, role: acls.Role, need: acls.Need, operation: str) -> None:
    """What the operation of this need is for. Raises one of REFUSED if it is not allowed."""
    if need.resource == "group":
        of_group(settings, need.name.removeprefix(settings.group_prefix), operation)
    elif operation == "Read":
        group = next(each.name for each in acls.needs(settings, role) if each.resource == "group")
        read(settings, need.name, f"{group.removeprefix(settings.group_prefix)}x")
    else:
        _WORK[operation](settings, need.name)


def is_refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except REFUSED:
        return True
    return False


def make_topics(settings: Settings) -> None:
    """Make the topics as a platform team does: with a limit of its own, and a record."""
    admin = kafka.admin(settings)  # kept: its answers come while it lives
    for topic in topics.wanted(settings):
        topic.config = {**(topic.config or {}), "max.message.bytes": str(LIMIT)}
        (made,) = admin.create_topics([topic]).values()
        made.result(60)
        write(settings, topic.topic)


@pytest.mark.parametrize("role", [role for role in acls.ROLES if role != "topics create"])
def test_a_role_needs_each_of_its_acls_and_doctor_names_what_lacks(
    secure: SecureKafka, everybody: Settings, role: acls.Role
) -> None:
    make_topics(everybody)
    limited = as_user(secure, everybody, LIMITED)
    needs = [(need, operation) for need in acls.needs(everybody, role) for operation in need.operations]
    allow(secure, everybody, role, LIMITED)
    for need, operation in needs:
        until("it is allowed", lambda n=need, o=operation: not is_refused(lambda: do(limited, role, n, o)))
    wanted = [each.check.rpartition(" of ")[2] for each in kafka_rights(limited) if each.level == "warning"]
    assert role not in wanted

    for need, operation in needs:
        (one,) = bindings(need._replace(operations=(operation,)), LIMITED)
        secure.forbid([one])
        until("it is refused", lambda n=need, o=operation: is_refused(lambda: do(limited, role, n, o)))
        secure.allow([one])
        until(
            "it is allowed again", lambda n=need, o=operation: not is_refused(lambda: do(limited, role, n, o))
        )
    secure.forbid([each for need in acls.needs(everybody, role) for each in bindings(need, LIMITED)])


def test_an_account_that_may_make_topics_makes_them_and_one_that_may_not_is_told(
    secure: SecureKafka, everybody: Settings
) -> None:
    limited = as_user(secure, everybody, LIMITED)
    with pytest.raises(ConfigurationError, match="may not make one") as refused:
        topics.ensure_topics(limited)
    assert everybody.topic_updates in str(refused.value)
    assert "custsvc topics acls" in (refused.value.fix or "")
    assert topics.ensure_topics(limited, needed=()) == []

    allow(secure, everybody, "topics create", LIMITED)

    made = until("it may", lambda: topics.ensure_topics(limited), despite=ConfigurationError)
    assert len(made) == 4
    assert topics.ensure_topics(limited) == []


@pytest.mark.parametrize("backend", ["postgres"])
def test_every_role_works_with_exactly_its_acls_on_topics_that_are_there(
    secure: SecureKafka,
    everybody: Settings,
    store: Store,
    database_url: str,
    all_databases: Callable[[str], Databases],
    servers: Servers,
    backend: str,
) -> None:
    """Each with an account of its own, from a change to the copy and the mail; none may make a topic."""
    make_topics(everybody)
    for role in acls.ROLES:
        allow(secure, everybody, role, f"custsvc_{role}")
    by_role = {role: as_user(secure, everybody, f"custsvc_{role}") for role in acls.ROLES}
    for role, settings in by_role.items():
        needed = acls.topics_of(settings, role)
        until(
            "its topics are there",
            lambda s=settings, n=needed: topics.ensure_topics(s, needed=n) == [],
            despite=ConfigurationError,
        )
    CustomerService(store.customers).create(Fields("Ada", "ada@example.com"), Caller("test"))

    with ExitStack() as stack:
        copies = all_databases("mongo")
        address = copies.migrated()
        stack.callback(copies.drop, address)
        copy = stack.enter_context(open_database("mongo", address))
        Workers(by_role["relay"], stack).relay(store)
        Workers(by_role["replicate"], stack).copy(copy.replica, copy.name)
        mailing = by_role["notify"].replace(
            backend=backend, postgres_url=database_url, smtp_url=servers.url("mail")
        )
        stopping = Stop()
        stack.enter_context(in_background(lambda: run_notify(mailing, stopping), stopping))
        until("the copy has it", lambda: copy.customers.get(1) is not None)
        until("the mail is sent", lambda: store.ledger.counts().get("sent"))
        shown = {each["step"]: each["state"] for each in steps(by_role["serve"], store)}
    assert shown["custsvc-copy-mongo"] != "unknown"
    found = [each for each in addresses(by_role["commands"]) if each.check.startswith(("kafka", "topic"))]
    assert not [each for each in found if each.level == "failed"]


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_topic_grows_with_exactly_the_acls_of_a_growth(
    secure: SecureKafka, everybody: Settings, store: Store, backend: str
) -> None:
    """The command has an account of its own. The relay's may not see the groups at first, and says so."""
    make_topics(everybody)
    group = f"{everybody.group_prefix}of-another-service"
    with closing(kafka.consumer(everybody, "of-another-service")) as client:
        client.commit(offsets=_places(everybody, 0), asynchronous=False)
    users: Mapping[acls.Role, str] = {"relay": "custsvc_relay", "topics grow": "custsvc_topics grow"}
    for role, user in users.items():
        allow(secure, everybody, role, user)
    of_relay, of_command = (as_user(secure, everybody, user) for user in users.values())
    stop, said = Stop(), list[str]()
    work = Grow(of_command, store, stop, said.append)
    until("the command may see the group", lambda: group in work.groups(), despite=REFUSED)
    customers = CustomerService(store.customers)
    customers.create(Fields("Ada"), Caller("test"))

    def grow() -> None:
        work.fill(work.switch(4, []), rate=None, progress=lambda _: None)

    with ExitStack() as stack:
        Workers(of_relay, stack).relay(store)
        stack.enter_context(in_background(grow, stop))
        until(
            "it says what the relay may not",
            lambda: f"may not describe the consumer group {group}" in "".join(said),
        )
        assert work.used() == 2
        (all_groups,) = (each for each in acls.needs(everybody, "topics grow") if each.resource == "group")
        secure.allow(bindings(all_groups, users["relay"]))
        with closing(kafka.consumer(everybody, "of-another-service")) as client:
            client.commit(offsets=_places(everybody, 10), asynchronous=False)
        until("the topic has grown", lambda: work.used() == 4)
        until(
            "it is filled",
            lambda: (growth := growth_of(store.facts, of_relay.topic_updates)) and growth.filled,
        )
    assert drop_old(of_command, store, now=True) > 0


def _places(settings: Settings, offset: int) -> list[TopicPartition]:
    return [TopicPartition(settings.topic_updates, part, offset) for part in range(settings.partitions)]
