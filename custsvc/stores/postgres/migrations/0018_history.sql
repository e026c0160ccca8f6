-- @compatible
-- Deleted old history is filled with new events only after a vacuum. The default waits until a fifth of the
-- table is deleted: of a history of 100 GB that is 20 GB.
ALTER TABLE customer_event SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
