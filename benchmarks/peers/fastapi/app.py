"""Customers by FastAPI and asyncpg: pydantic models, a pool, SQL by hand.

With PEER_OUTBOX=1 each write also stores an event in the same transaction, as the outbox pattern has it.
"""

import json
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, EmailStr

OUTBOX = os.environ.get("PEER_OUTBOX") == "1"


class CustomerIn(BaseModel):
    name: str
    email: EmailStr | None = None
    phone: str | None = None
    metadata: dict[str, str | int | float | bool | None] = {}


class Customer(CustomerIn):
    id: int
    version: int
    created_on: datetime
    updated_on: datetime


async def set_codecs(connection):
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(
        os.environ["PEER_URL"], min_size=4, max_size=10, init=set_codecs
    ) as app.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/customers/{customer_id}")
async def get_customer(customer_id: int) -> Customer:
    row = await app.pool.fetchrow("SELECT * FROM peer_customer WHERE id = $1", customer_id)
    if row is None:
        raise HTTPException(404)
    return Customer(**row)


@app.get("/customers/")
async def list_customers(limit: int = 100, after: int = 0) -> list[Customer]:
    rows = await app.pool.fetch(
        "SELECT * FROM peer_customer WHERE id > $1 ORDER BY id LIMIT $2", after, limit
    )
    return [Customer(**row) for row in rows]


@app.post("/customers/", status_code=201)
async def create_customer(body: CustomerIn) -> Customer:
    insert = "INSERT INTO peer_customer (name, email, phone, metadata) VALUES ($1, $2, $3, $4) RETURNING *"
    values = body.name, body.email, body.phone, body.metadata
    if not OUTBOX:
        return Customer(**await app.pool.fetchrow(insert, *values))
    async with app.pool.acquire() as connection, connection.transaction():
        customer = Customer(**await connection.fetchrow(insert, *values))
        await store_event(connection, "created", None, customer)
        return customer


@app.put("/customers/{customer_id}")
async def replace_customer(customer_id: int, body: CustomerIn) -> Customer:
    update = (
        "UPDATE peer_customer SET name = $2, email = $3, phone = $4, metadata = $5, version = version + 1, "
        "updated_on = now() WHERE id = $1 RETURNING *"
    )
    values = customer_id, body.name, body.email, body.phone, body.metadata
    if not OUTBOX:
        row = await app.pool.fetchrow(update, *values)
        if row is None:
            raise HTTPException(404)
        return Customer(**row)
    async with app.pool.acquire() as connection, connection.transaction():
        before = await connection.fetchrow(
            "SELECT * FROM peer_customer WHERE id = $1 FOR UPDATE", customer_id
        )
        if before is None:
            raise HTTPException(404)
        customer = Customer(**await connection.fetchrow(update, *values))
        await store_event(connection, "updated", Customer(**before), customer)
        return customer


async def store_event(connection, op: str, before: Customer | None, after: Customer) -> None:
    payload = {
        "id": str(uuid.uuid4()),
        "op": op,
        "before_change": before and before.model_dump(mode="json"),
        "after_change": after.model_dump(mode="json"),
    }
    await connection.execute(
        "INSERT INTO peer_event (customer_id, version, payload) VALUES ($1, $2, $3)",
        after.id,
        after.version,
        json.dumps(payload),
    )
