"""The record that ships. An installation can declare another one."""

import attrs

from rollcall.domain.fields import Text, WholeNumber
from rollcall.domain.record import RecordType, field


@attrs.frozen(kw_only=True)
class User:
    """A user to register. To add a field, add an attribute with its rule.

    Attributes:
        name: The person's name.
        country: The person's country, as the uploader writes it.
        age: The person's age in whole years.
    """

    name: str = field(Text(max_length=200, example="Taro"))
    country: str = field(Text(max_length=200, example="Japan"))
    age: int = field(WholeNumber(minimum=0, maximum=150))


USERS = RecordType.of(User)
