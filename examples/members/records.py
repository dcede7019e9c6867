"""A record with a field of every kind, as docs/your-record.md explains it."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import attrs

from rollcall.domain.fields import Boolean, Choice, Date, DecimalNumber, Email, Text, Uuid, WholeNumber
from rollcall.domain.record import field


@attrs.frozen(kw_only=True)
class Member:
    """A member of a club."""

    table = "members"

    external_id: str = field(Text(max_length=7, pattern="[A-Z]{2}-[0-9]{4}", example="JP-0042"))
    name: str = field(Text(max_length=200, example="山田太郎"), labels=("氏名", "Full name"))
    email: str = field(Email())
    born: date | None = field(
        Date(formats=("D.M.YYYY",), earliest=date(1900, 1, 1)), optional=True, labels=("生年月日",)
    )
    points: int = field(WholeNumber(minimum=0, maximum=1_000_000))
    fee: Decimal = field(DecimalNumber(digits=8, places=2))
    active: bool = field(Boolean(true=("yes", "はい"), false=("no", "いいえ")))
    role: str = field(Choice(("member", "guest", "staff"), any_case=True))
    token: UUID | None = field(Uuid(), optional=True)
    phone: str | None = field(Text(max_length=30, example="03-1234-5678"), optional=True)
    country: str = field(Text(max_length=100, example="日本"))
    note: str | None = field(Text(max_length=500, example="by post"), optional=True)
