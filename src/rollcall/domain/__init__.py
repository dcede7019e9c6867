"""What Rollcall knows of users, uploads and imports: pure rules, no input or output."""
