"""Customers by Eve on MongoDB: a schema, and the settings that are fastest: no ETags, no count."""

import os

from eve import Eve

application = Eve(
    settings={
        "MONGO_URI": os.environ["PEER_URL"],
        # As durable as custsvc's writes: on a replica set a majority has it in the journal.
        "MONGO_WRITE_CONCERN": {"w": "majority"},
        "DOMAIN": {
            "customers": {
                "schema": {
                    "name": {"type": "string", "required": True, "maxlength": 400},
                    "email": {"type": "string", "nullable": True},
                    "phone": {"type": "string", "nullable": True},
                    "metadata": {"type": "dict"},
                },
            }
        },
        "RESOURCE_METHODS": ["GET", "POST"],
        "ITEM_METHODS": ["GET", "PUT", "PATCH", "DELETE"],
        "IF_MATCH": False,
        "XML": False,
        "RENDERERS": ["eve.render.JSONRenderer"],
        "OPTIMIZE_PAGINATION_FOR_SPEED": True,
        "PAGINATION_LIMIT": 200,
    }
)
