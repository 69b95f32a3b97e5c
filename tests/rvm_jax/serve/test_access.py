"""Who is let in: the file of people, sessions that are signed and end, and guesses that have to wait."""

import base64
import json
import os

import pytest

from rvm_jax.errors import InputError
from rvm_jax.serve import access
from rvm_jax.serve.access import Access


@pytest.fixture
def people(tmp_path, monkeypatch):
    hashed = access._hash
    monkeypatch.setattr(access, "_hash", lambda password, salt: hashed(password, salt))
    access.add_user(tmp_path / "people", "ann", "secret word")
    return tmp_path / "people"


def test_passwords_are_kept_as_salted_hashes_that_nobody_else_reads(people):
    access.add_user(people, "bob", "secret word")
    text = people.read_text()
    assert "secret" not in text
    assert len({line.split(":")[3] for line in text.splitlines()}) == 2
    assert people.stat().st_mode & 0o077 == 0
    allowed = Access(people)
    assert access.check_password(allowed, "ann", "secret word")
    assert not access.check_password(allowed, "ann", "secret words")
    assert not access.check_password(allowed, "eve", "secret word")
    access.add_user(people, "ann", "another word")
    assert not access.check_password(allowed, "ann", "secret word")
    assert access.check_password(allowed, "ann", "another word")


def test_who_could_read_the_file_can_read_it_when_people_are_added(people):
    people.chmod(0o640)
    owner = (7, 8) if os.getuid() == 0 else (os.getuid(), os.getgid())
    os.chown(people, *owner)
    access.add_token(people, "ann")
    access.add_user(people, "bob", "secret word")
    told = people.stat()
    assert (told.st_mode & 0o777, (told.st_uid, told.st_gid)) == (0o640, owner)


def test_tokens_are_kept_as_hashes(people):
    token, other = (access.add_token(people, "ann") for _ in range(2))
    assert token not in people.read_text()
    allowed = Access(people)
    assert [access.token_person(allowed, one) for one in (token, other)] == ["person:ann"] * 2
    assert access.token_person(allowed, token[:-1]) is None
    assert access.token_person(Access(), token) is None


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("ann:secret", 0o600, "line 1: expected lines that rvm serve --add-user or --add-token wrote"),
        ("ann:scrypt:xy:00", 0o600, "line 1: expected lines"),
        ("", 0o604, "can be used by everybody on this machine: chmod 600 "),
        (None, 0o600, "cannot be read: make it with rvm serve --auth "),
    ],
    ids=str,
)
def test_a_file_that_is_none_is_refused(tmp_path, text, mode, message):
    path = tmp_path / "people"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(InputError) as caught:
        access.read(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "password", "message"),
    [
        ("a:b", "secret word", "the name 'a:b' cannot be"),
        ("", "secret word", "the name '' cannot be"),
        ("ann\n", "secret word", "cannot be: expected letters"),
        ("ann", "secret", "the password has 6 characters: expected 8 to 1024"),
    ],
    ids=str,
)
def test_names_and_passwords_that_cannot_be_leave_no_file(tmp_path, name, password, message):
    with pytest.raises(InputError) as caught:
        access.add_user(tmp_path / "people", name, password)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_session_is_of_one_person_and_ends(people, monkeypatch):
    allowed = Access(people)
    cookie = access.start_session(allowed, "person:ann")
    assert access.session_person(allowed, cookie) == "person:ann"
    content, _, signature = cookie.partition(".")
    _, until, salt = json.loads(base64.urlsafe_b64decode(content))
    forged = base64.urlsafe_b64encode(json.dumps(["person:bob", until, salt]).encode()).decode()
    for wrong in (f"{forged}.{signature}", f"{content}.", content, "", ".", "é.x", f"{content}.é", "W10=.x"):
        assert access.session_person(allowed, wrong) is None
    assert access.session_person(Access(people), cookie) is None  # another server's
    with monkeypatch.context() as patch:
        patch.setattr(access.time, "time", lambda: until + 1)
        assert access.session_person(allowed, cookie) is None
    other = access.start_session(allowed, "person:ann")
    access.end_session(allowed, cookie)
    assert [access.session_person(allowed, one) for one in (cookie, other)] == [None, "person:ann"]
    access.add_user(people, "ann", "another word")
    assert access.session_person(allowed, other) is None


def test_a_guest_is_nobody_where_people_log_in(people):
    allowed, free = Access(people), Access()
    for person, at in (("guest:x", free), ("person:ann", allowed)):
        assert access.session_person(at, access.start_session(at, person)) == person
    allowed.secret = free.secret
    assert access.session_person(allowed, access.start_session(free, "guest:x")) is None
    assert access.session_person(free, access.start_session(allowed, "person:ann")) is None


def test_wrong_guesses_wait_longer_and_longer(people, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(access.time, "monotonic", lambda: now)
    allowed, keys = Access(people), ("address 1", "name ann")
    waits = []
    for _ in range(12):
        access.note_guess(allowed, keys, right=False)
        waits.append(access.delay(allowed, keys))
        now += waits[-1]
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    access.note_guess(allowed, keys, right=False)
    assert access.delay(allowed, ("address 1", "name bob")) == 60
    assert access.delay(allowed, ("address 2", "name ann")) == 60
    assert access.delay(allowed, ("address 2", "name bob")) == 0
    access.note_guess(allowed, keys, right=True)
    assert access.delay(allowed, keys) == 0
    monkeypatch.setattr(access, "MOST_GUESSERS", 10)
    for number in range(50):
        access.note_guess(allowed, (f"address {number}",), right=False)
    assert len(allowed.guesses) == 10
