"""Codes and tokens survive people: how they are typed, cut, and carried."""

import base64
import contextlib
import hashlib
from collections.abc import Callable
from itertools import combinations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discogrid.errors import UsageError
from discogrid.pairing.addresses import Address, parse_address
from discogrid.pairing.codes import Code, new_code, parse_code, parse_target
from discogrid.pairing.invitations import Invitation
from discogrid.pairing.tokens import PREFIX, Token, parse_token
from discogrid.pairing.words import WORDS

codes = st.builds(new_code, st.integers(1, 99), st.binary(min_size=2, max_size=2))
addresses = st.builds(Address, st.sampled_from(["10.0.0.7", "attic.local", "fe80::1"]), st.integers(0, 65535))
tokens = st.builds(
    Token,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.lists(addresses, max_size=8).map(tuple),
)


def distance(one: str, other: str) -> int:
    """How many letters must be changed, added or left out to make one of the other."""
    above = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        line = [row]
        for at, other_letter in enumerate(other, 1):
            line.append(min(above[at] + 1, line[-1] + 1, above[at - 1] + (letter != other_letter)))
        above = line
    return above[-1]


def test_there_are_256_words_that_nobody_takes_for_one_another() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert len({word[:4] for word in WORDS}) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 9 for word in WORDS)
    assert min(distance(one, other) for one, other in combinations(WORDS, 2)) == 2


@given(codes, st.sampled_from("- _.\u2013\u2014 "), st.sampled_from([str.upper, str.title, str.lower]))
def test_case_spaces_and_dashes_do_not_matter(code: Code, dash: str, case: Callable[[str], str]) -> None:
    typed = f"  {case(dash.join((code.nameplate, *code.words)))} "
    assert parse_code(typed) == code
    assert parse_code(f"0{code}") == code


@given(codes, addresses)
def test_a_code_may_say_where_to_ask(code: Code, address: Address) -> None:
    target = parse_target(f"{code}@{address}")
    assert (target.code, target.address) == (code, address)
    assert parse_target(str(code)).address is None


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_a_code_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert set(parse_target(text).code.words) <= set(WORDS)


@pytest.mark.parametrize(
    "typed", ["", "crater-mango", "4-crater", "4-crater-mango-4", "four-crater-mango", "²-crater-mango"]
)
def test_what_is_no_code_is_said_to_be_none(typed: str) -> None:
    with pytest.raises(UsageError, match="is no code"):
        parse_code(typed)


@pytest.mark.parametrize("number", ["0", "100", "00", "007007"])
def test_a_number_that_no_code_has_is_named(number: str) -> None:
    with pytest.raises(UsageError, match="does not begin with"):
        parse_code(f"{number}-crater-mango")


def test_a_mistyped_word_is_found_before_it_costs_a_guess() -> None:
    with pytest.raises(UsageError) as caught:
        parse_code("4-crator-mango")
    assert "crater" in caught.value.why
    assert "as good as before" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        parse_code("4-qqqqqq-mango")
    assert caught.value.why == ""


def test_secrets_are_not_in_what_logs_show() -> None:
    code, token = Code("4", ("crater", "mango")), Token(b"0123456789abcdef", bytes(32), ())
    assert "mango" not in repr(code)
    assert "0123" not in repr(token)
    assert "mango" not in repr(Invitation("4", code.password, expires=0.0))


@given(tokens)
def test_a_token_is_one_printable_line_and_comes_back(token: Token) -> None:
    line = str(token)
    assert line.isascii()
    assert line.isprintable()
    assert " " not in line
    assert parse_token(f"\n{line}\n") == token


@given(tokens, st.data())
def test_a_token_with_one_wrong_character_is_refused(token: Token, data: st.DataObject) -> None:
    line = str(token)
    at = data.draw(st.integers(len(PREFIX), len(line) - 2))  # the last one may carry bits that mean nothing
    wrong = data.draw(st.sampled_from("Aq7_-").filter(lambda character: character != line[at]))
    with pytest.raises(UsageError, match="this is no token"):
        parse_token(line[:at] + wrong + line[at + 1 :])


@given(tokens, st.integers(1, 40))
def test_a_token_that_was_cut_is_refused(token: Token, missing: int) -> None:
    with pytest.raises(UsageError, match="this is no token"):
        parse_token(str(token)[:-missing])


@pytest.mark.parametrize(
    "line", ["", "4-crater-mango", PREFIX, PREFIX + "A", PREFIX + "ä", PREFIX + "A" * 9000]
)
def test_what_is_no_token_is_said_to_be_none(line: str) -> None:
    with pytest.raises(UsageError, match="this is no token"):
        parse_token(line)


@pytest.mark.parametrize(
    "body", [[2, b"s" * 16, b"f" * 32, []], [1, b"s", b"f" * 32, []], [1, b"s" * 16, b"f", []], 7]
)
def test_a_token_of_another_version_is_refused_though_its_checksum_holds(body: object) -> None:
    with pytest.raises(UsageError, match="this is no token"):
        parse_token(coded(body))


def test_a_token_that_is_no_message_is_refused_though_its_checksum_holds() -> None:
    with pytest.raises(UsageError, match="this is no token"):
        parse_token(coded(None, raw=b"\xc1"))


def test_a_nameplate_of_a_token_does_not_show_the_secret() -> None:
    token = Token(b"0123456789abcdef", bytes(32), ())
    assert token.nameplate != Token(b"0123456789abcdeg", bytes(32), ()).nameplate
    assert len(token.nameplate) <= 16
    assert token.secret.hex()[:12] not in token.nameplate
    assert token.password != token.secret


@given(addresses)
def test_an_address_comes_back(address: Address) -> None:
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [("attic", Address("attic", 7718)), ("[::1]", Address("::1", 7718)), (" attic:1 ", Address("attic", 1))],
)
def test_an_address_may_leave_out_the_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":7718",
        "attic:",
        "attic:x",
        "attic:70000",
        "attic:999999",
        "a b:1",
        "::1:77",
        "a/b:1",
        "a\x1bb:1",
        "x" * 300,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def coded(body: object, raw: bytes | None = None) -> str:
    packed = msgpack.packb(body) if raw is None else raw
    return PREFIX + base64.urlsafe_b64encode(packed + hashlib.sha256(packed).digest()[:4]).decode().rstrip(
        "="
    )


def test_an_invitation_ends_when_it_was_used_expired_or_guessed_wrong() -> None:
    invitation = Invitation("4", b"secret", expires=10.0)
    assert invitation.ended(9.9) is None
    assert invitation.ended(10.0) == "expired"
    assert invitation.used().ended(0.0) == "used"
    assert invitation.guessed_wrong().ended(0.0) == "burnt"
    assert invitation.guessed_wrong().used().ended(99.0) == "burnt"


def test_a_wrong_guess_does_not_end_what_cannot_be_guessed() -> None:
    assert Invitation("t1", b"secret", expires=10.0, guessable=False).guessed_wrong().ended(0.0) is None
