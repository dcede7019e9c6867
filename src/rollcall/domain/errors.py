"""The root of Rollcall's errors."""


class RollcallError(Exception):
    """An error whose text shows no cell. `application/errors.py` draws the tree."""


class DeclarationError(RollcallError, ValueError):
    """The declaration of a record or of a field is wrong."""
