"""The ports in technology: one file or folder for each."""
