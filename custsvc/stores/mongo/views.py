"""Saved views, in MongoDB."""

from __future__ import annotations

from typing import Final

from pymongo import ASCENDING
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...ports.views import OWN_MAX, SHARED_SHOWN, SavedView
from ..common.views import name_taken, too_many
from .connection import Connection, Document, make_collection

_COLLECTION: Final = "saved_view"
_BY_NAME: Final = [("name", ASCENDING), ("_id", ASCENDING)]
_CHANGED: Final = ("name", "query", "shared", "changed_on")


def create_saved_views(database: Database[Document]) -> None:
    """The collection of saved views."""
    make_collection(database, _COLLECTION)
    database[_COLLECTION].create_index([("owner", ASCENDING), ("name", ASCENDING)], unique=True)
    database[_COLLECTION].create_index([("shared", ASCENDING), ("name", ASCENDING)])


class MongoViews:
    """The port `Views` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._views = connection[_COLLECTION]

    def add(self, view: SavedView) -> None:
        with self._translated():
            if self._views.count_documents({"owner": view.owner}, limit=OWN_MAX) >= OWN_MAX:
                raise too_many()
            try:
                self._views.insert_one(_document(view))
            except DuplicateKeyError as exc:
                raise name_taken(view) from exc

    def find(self, view_id: str) -> SavedView | None:
        with self._translated():
            found = self._views.find_one({"_id": view_id})
        return _view(found) if found else None

    def seen_by(self, owner: str) -> list[SavedView]:
        shared = {"shared": True, "owner": {"$ne": owner}}
        with self._translated():
            own = [_view(each) for each in self._views.find({"owner": owner}, sort=_BY_NAME)]
            return own + [_view(each) for each in self._views.find(shared, sort=_BY_NAME, limit=SHARED_SHOWN)]

    def replace(self, view: SavedView) -> bool:
        changes = {name: getattr(view, name) for name in _CHANGED}
        with self._translated():
            try:
                done = self._views.update_one({"_id": view.id, "owner": view.owner}, {"$set": changes})
            except DuplicateKeyError as exc:
                raise name_taken(view) from exc
        return done.matched_count > 0

    def remove(self, view_id: str) -> bool:
        with self._translated():
            return self._views.delete_one({"_id": view_id}).deleted_count > 0

    def leave(self, owner: str) -> None:
        gone = [{"$set": {"owner": {"$concat": ["gone:", "$_id"]}}}]
        with self._translated():
            self._views.delete_many({"owner": owner, "shared": False})
            self._views.update_many({"owner": owner}, gone)


def _document(view: SavedView) -> Document:
    return {
        "_id": view.id,
        "owner": view.owner,
        "made_by": view.made_by,
        "name": view.name,
        "query": view.query,
        "shared": view.shared,
        "changed_on": view.changed_on,
    }


def _view(found: Document) -> SavedView:
    return SavedView(found.pop("_id"), **found)
