from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from quantlab.cli import main
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["token", *words])
    assert result.exit_code == code, result.output
    return result.output


def verified(text: str, home: str = "quantlab-server") -> str | None:
    with Service.open(Settings(home=Path(home))) as service:
        token = Tokens(service.database).verify(text.strip())
    return token.scope if token else None


def test_a_token_is_made_listed_and_revoked() -> None:
    text = run("create", "ci", "--scope", "submit", "--expires", "30d")
    assert verified(text) == "submit"
    listed = run("ls")
    assert text.strip() not in listed
    assert all(word in listed for word in ("ci", "submit", "expires"))
    assert run("revoke", "ci") == "Revoked ci.\n"
    assert verified(text) is None
    assert run("ls") == "No tokens.\n"


def test_read_and_for_ever_is_what_nobody_asked_for() -> None:
    made = json.loads(run("create", "page", "--json"))
    assert (made["scope"], made["expires"]) == ("read", None)
    assert verified(made["token"]) == "read"
    assert json.loads(run("ls", "--json")) == [{k: v for k, v in made.items() if k != "token"}]


def test_home_and_db_say_where(tmp_path: Path) -> None:
    text = run("create", "a", "--home", "elsewhere")
    assert verified(text, "elsewhere")
    url = f"sqlite:///{tmp_path / 'my.db'}"
    run("create", "a", "--db", url)
    assert "a" in run("ls", "--db", url)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("revoke", "nobody"), "no token called nobody"),
        (("create", "a b"), "is no name"),
        (("create", "a", "--scope", "root"), "root"),
        (("create", "a", "--expires", "soon"), "not a duration"),
        (("ls", "--db", "mysql://x/y"), "not the URL"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], said: str) -> None:
    assert said in run(*words, code=2)


def test_a_name_twice() -> None:
    run("create", "a")
    assert "quantlab token revoke a" in run("create", "a", code=2)
