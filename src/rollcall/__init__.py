"""Rollcall: drop a CSV of users in a bucket, get users in PostgreSQL."""
