\set id random(1, :customers)
SELECT version, deleted, doc FROM customer WHERE id = :id;
