"""The use-cases of customers: one change, many in one request, repeated requests, erasing."""
