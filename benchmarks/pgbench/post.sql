\set id random(1000000000, 9000000000000000000)
WITH c AS (
    INSERT INTO customer (id, version, deleted, name, email, phone, created_on, updated_on, doc)
    VALUES (:id, 1, false, 'Ada', 'ada@example.com', '+1 555', now(), now(), repeat('x', 300))
)
INSERT INTO customer_event (customer_id, version, created, id, op, payload)
VALUES (:id, 1, now(), gen_random_uuid(), 'created', repeat('x', 600));
