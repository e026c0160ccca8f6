"""The interfaces of a database, one file per family; `stores` implements them twice."""
