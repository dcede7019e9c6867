"""PostgreSQL as the repository of users and ledger."""
