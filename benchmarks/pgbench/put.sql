\set id random(1, :customers)
WITH u AS (
    UPDATE customer SET version = version + 1, phone = '+1 555', updated_on = now(), doc = repeat('x', 300)
    WHERE id = :id RETURNING id, version
)
INSERT INTO customer_event (customer_id, version, created, id, op, payload)
SELECT id, version, now(), gen_random_uuid(), 'updated', repeat('x', 900) FROM u;
