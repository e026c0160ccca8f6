"""What the service says about itself: OpenAPI, event schemas, and what each problem means.

Pydantic models here are the one source of those documents. Nothing of it is imported to answer a request
about customers: the first request for a document builds it.
"""
