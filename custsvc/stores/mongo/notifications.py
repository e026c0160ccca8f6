"""The steps of a notification in the ledger, each as one conditional update of its document."""

from __future__ import annotations

from pymongo import UpdateOne

from ...ports.ledger import SETTLED, UNSETTLED, Notification, Settlement
from .connection import Document
from .records import literal

# Matches only a document that an upsert is just inserting.
_IS_NEW = {"$eq": [{"$type": "$created_on"}, "missing"]}


def adding(n: Notification, position: int) -> UpdateOne:
    """Add a notification that is not there yet. `position` is its place among those added together."""
    new = {"$cond": [_IS_NEW, _new(n, position), "$$ROOT"]}
    # An existing digest does not match, so the upsert inserts, which fails with a duplicate key.
    only_new: Document = {} if n.entries is None else {"created_on": {"$exists": False}}
    return UpdateOne({"_id": n.id, **only_new}, [{"$replaceWith": new}], upsert=True)


def growing(n: Notification, was: int) -> UpdateOne:
    """Give a digest its new content. If it has changed since it was read, the upsert fails."""
    due = n.next_at or "$next_at"
    step = {
        "version": n.version,
        "first_version": {"$ifNull": ["$first_version", "$version"]},
        "event_id": literal(n.event_id),
        "request_id": literal(n.request_id),
        "traceparent": literal(n.traceparent),
        "subject": literal(n.subject),
        "text": literal(n.text),
        "html": literal(n.html),
        "entries": literal(n.entries),
        "next_at": due,
        # A blocked one is not due, whatever its time.
        "due": {"$cond": [{"$eq": [{"$type": "$due"}, "missing"]}, "$$REMOVE", due]},
        "updated_on": "$$NOW",
    }
    grown = {"$cond": [_IS_NEW, {"_id": None}, {"$mergeObjects": ["$$ROOT", step]}]}
    as_it_was = {"_id": n.id, "state": "queued", "attempts": 0, "version": was}
    return UpdateOne(as_it_was, [{"$replaceWith": grown}], upsert=True)


def _new(n: Notification, position: int) -> Document:
    """The document of a new notification."""
    settled = n.state in SETTLED
    static = {
        "_id": n.id,
        "event_id": n.event_id,
        "customer_id": n.customer_id,
        "version": n.version,
        "rule": n.rule,
        "recipient": n.recipient,
        "subject": n.subject,
        "text": n.text,
        "html": n.html,
        "state": n.state,
        "attempts": 0,
        "position": position,
        "reason": n.reason,
        "published": False,
        "channel": n.channel,
        "spared": 0,
        "entries": n.entries,
        "first_version": n.order,
        "request_id": n.request_id,
        "traceparent": n.traceparent,
        **({} if settled else {"unsettled": True}),
    }
    due = n.next_at or "$$NOW"
    times = {
        "created_on": "$$NOW",
        "updated_on": "$$NOW",
        "next_at": due,
        **({} if settled else {"due": due}),
    }
    return {"$mergeObjects": [{"$literal": static}, times]}


def handing_over(n: Notification, mark: str) -> UpdateOne:
    """Record that the text is about to be sent. `mark` shows later whether this update matched."""
    step = {
        "state": "handing_over",
        "updated_on": "$$NOW",
        "lease_until": from_now("$lease"),
        "moved_by": mark,
    }
    return UpdateOne({"_id": n.id, "token": n.token, "state": "claimed"}, [{"$set": step}])


def settling(s: Settlement, mark: str) -> UpdateOne:
    """Record the result of an attempt. `mark` shows later whether this update matched."""
    n = s.notification
    may_be = ["claimed", "handing_over", *(["unknown"] if s.state in ("sent", "failed") else [])]
    step: Document = {
        "state": s.state,
        "reason": literal(s.reason),
        "next_at": s.next_at or "$next_at",
        "updated_on": "$$NOW",
        "moved_by": mark,
    }
    if s.state in UNSETTLED:
        step["due"] = s.next_at or "$next_at"
    if s.count_attempt:
        step["tries"] = with_attempt(s.state, s.code, s.reason, s.duration)
    else:
        step["attempts"] = {"$subtract": ["$attempts", 1]}
    gone = ["token", "lease", "lease_until", *(["unsettled"] if s.state in SETTLED else [])]
    return UpdateOne(
        {"_id": n.id, "token": n.token, "state": {"$in": may_be}}, [{"$set": step}, {"$unset": gone}]
    )


def with_attempt(state: str, code: int | None, text: str | None, duration: float) -> Document:
    """The attempts with this one appended; it replaces one of the same number."""
    attempt = {
        "number": "$attempts",
        "tried_on": from_now(-duration),
        "outcome": state,
        "code": code,
        "text": literal(text),
        "duration": duration,
    }
    before = {
        "$filter": {"input": {"$ifNull": ["$tries", []]}, "cond": {"$ne": ["$$this.number", "$attempts"]}}
    }
    return {"$concatArrays": [before, [attempt]]}


def from_now(seconds: float | str) -> Document:
    """The server's time plus this many seconds, a number or a field of the document."""
    millis = {"$multiply": [seconds, 1000]} if isinstance(seconds, str) else round(seconds * 1000)
    return {"$add": ["$$NOW", millis]}
