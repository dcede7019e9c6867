"""Files that tests build have every column, whatever the columns are."""

import gzip

import pytest

from rollcall.domain.user import USERS
from support.builders import ANN, BEN, completed, csv_of
from support.fakes import Desk

MORE = {"phone": "unknown"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"name,country,age\nAnn,Norway,41\n", b"phone,name,country,age\nunknown,Ann,Norway,41\n"),
        (
            b"\n\nsep=;\r\nage;name;country\r\n;\r\n1\r\n",
            b"\n\nsep=;\r\nphone;age;name;country\r\n;\r\nunknown;1\r\n",
        ),
        (b'name,country,age\n"A\nB",X,1\n"C', b'phone,name,country,age\nunknown,"A\nB",X,1\nunknown,"C'),
        (b"\xef\xbb\xbfName,country,age\n\xff,,\n", b"\xef\xbb\xbfphone,Name,country,age\nunknown,\xff,,\n"),
        ("\ufeffname\tcountry\tage".encode("utf-16-le"), "\ufeffphone\tname\tcountry\tage".encode("utf-16-le")),
        (gzip.compress(b"name,country,age", mtime=0), gzip.compress(b"phone,name,country,age", mtime=0)),
    ],
)
def test_a_file_is_completed_record_by_record(data: bytes, expected: bytes) -> None:
    assert completed(data, MORE) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"name,country\nA,B\n", b"\x1f\x8bnot gzip", b"%PDF-1.7", b"\xff\xfea", b"age,Phone,name,country\n"],
)
def test_a_file_that_is_no_list_stays_as_it_is(data: bytes) -> None:
    assert completed(data, MORE) == data


def test_a_built_file_registers_its_users() -> None:
    desk = Desk()

    desk.load(desk.drop(csv_of(ANN, {"age": "x"}, BEN, labels=("note", *reversed(USERS.columns)))))

    assert list(desk.users.users()) == [ANN, BEN]
