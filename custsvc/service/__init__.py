"""The use-cases of customers: one change, many in one request, requests sent twice, erasing."""
