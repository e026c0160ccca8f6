-- Which request caused the event of a notification: its id, and its W3C trace context.
-- @compatible
ALTER TABLE notification
    ADD COLUMN request_id text,
    ADD COLUMN traceparent text;
