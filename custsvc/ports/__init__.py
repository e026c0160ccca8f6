"""What a database must give, a file for each family; `stores` has it for PostgreSQL and MongoDB."""
