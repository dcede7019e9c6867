"""The rules for users, uploads and imports: pure functions and values, without input or output."""
