"""PostgreSQL as the home of users and ledger."""
