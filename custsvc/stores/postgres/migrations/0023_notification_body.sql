-- A notification is written three times or more, its text never again: kept apart from the row, the text is not
-- copied each time. Rows that are there already stay as they are.
-- @compatible
ALTER TABLE notification SET (toast_tuple_target = 512);
