from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa

from quantlab.errors import QuantlabError
from quantlab.serve.db import TOKENS, Database
from quantlab.serve.queue import ConflictError, NotFoundError
from quantlab.serve.service import Service
from quantlab.serve.tokens import PREFIX, SCOPES, Token, Tokens


@pytest.fixture
def tokens(service: Service) -> Tokens:
    return Tokens(service.database)


def stored(database: Database) -> list[sa.Row]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(TOKENS)))


def test_a_token_is_verified_by_its_text_alone(tokens: Tokens) -> None:
    token, text = tokens.create("ci", "submit")
    assert tokens.verify(text) == token
    assert tokens.verify(text + "x") is None
    assert tokens.verify(text[:-1]) is None
    assert tokens.verify("") is None
    assert tokens.verify(token.id) is None


def test_only_a_hash_is_stored(tokens: Tokens) -> None:
    _, text = tokens.create("ci", "read")
    (row,) = stored(tokens.database)
    assert row.digest == hashlib.sha256(text.encode()).hexdigest()
    assert all(text not in str(value) and text[len(PREFIX) :] not in str(value) for value in row)


def test_texts_are_long_and_never_alike(tokens: Tokens) -> None:
    texts = {tokens.create(f"t{i}", "read")[1] for i in range(20)}
    assert len(texts) == 20
    assert all(len(text.removeprefix(PREFIX)) == 43 for text in texts)  # 256 bits in base64


def test_a_token_expires(tokens: Tokens) -> None:
    lasting, kept = tokens.create("lasting", "read", 3600.0)
    over, gone = tokens.create("over", "read", 0.0)
    assert tokens.verify(kept) == lasting
    assert tokens.verify(gone) is None
    assert tokens.all() == [lasting, over]
    assert lasting.expires is not None
    assert lasting.expires == pytest.approx(lasting.created + 3600)


def test_a_revoked_token_is_refused(tokens: Tokens) -> None:
    (_, first), (token, second) = tokens.create("a", "read"), tokens.create("b", "read")
    assert tokens.revoke("a").name == "a"
    assert tokens.revoke(token.id).name == "b"
    assert tokens.verify(first) is tokens.verify(second) is None
    with pytest.raises(NotFoundError, match="no token called a"):
        tokens.revoke("a")
    assert not tokens.any()


def test_a_name_is_used_once(tokens: Tokens) -> None:
    tokens.create("ci", "read")
    with pytest.raises(ConflictError, match="there is a token called ci"):
        tokens.create("ci", "admin")
    assert tokens.any()


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 101, "<b>"])
def test_names_are_plain(tokens: Tokens, name: str) -> None:
    with pytest.raises(QuantlabError, match="no name"):
        tokens.create(name, "read")


def test_scopes_contain_each_other() -> None:
    allowed = {
        scope: [other for other in SCOPES if Token("", "", scope, 0, None).allows(other)]
        for scope in SCOPES
    }
    assert allowed == {
        "read": ["read"],
        "submit": ["read", "submit"],
        "admin": ["read", "submit", "admin"],
    }
