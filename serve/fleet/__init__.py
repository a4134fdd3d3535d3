"""Several processes on one PostgreSQL: some answer, some compute, any may die."""
