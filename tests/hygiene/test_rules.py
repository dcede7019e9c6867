"""ruff enforces security: its S rules are those of bandit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Careless code for each rule.
CARELESS = {
    "S102": "exec(input())",
    "S301": "import pickle\npickle.loads(input())",
    "S307": "eval(input())",
    "S324": "import hashlib\nhashlib.md5(b'')",
    "S501": "import requests\nrequests.get('https://example.com', verify=False, timeout=1)",
    "S602": "import subprocess\nsubprocess.run(input(), shell=True)",
    "S608": "def of(name: str) -> str:\n    return f\"select * from users where name = '{name}'\"",
}


@pytest.mark.parametrize("rule", CARELESS)
def test_ruff_enforces_the_rules_of_bandit(rule: str) -> None:
    """With this repository's settings for shipped code."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--output-format=json",
        "--stdin-filename=src/rollcall/careless.py",
        "-",
    ]
    ended = subprocess.run(command, cwd=ROOT, input=CARELESS[rule], capture_output=True, check=False, text=True)  # noqa: S603 - ours

    assert rule in {found["code"] for found in json.loads(ended.stdout)}
