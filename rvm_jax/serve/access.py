"""Access: who may use the server, by password, token or proxy, kept in a file; their sessions; the delay of guesses."""

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing, writing

SESSION_SECONDS = 12 * 3600
FREE_GUESSES, LONGEST_DELAY, MOST_GUESSERS = 3, 60.0, 10_000
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
NAME = re.compile(r"[\w.@+-]{1,64}")

PASSWORD, TOKEN = "scrypt", "token"
"""The second word of a line: NAME:scrypt:SALT:HASH or NAME:token:HASH."""


class UnreadableError(InputError):
    """The file of people has become one that cannot be read while the server runs."""

    status = 503


@dataclass(frozen=True)
class Accounts:
    passwords: dict[str, tuple[bytes, bytes]]
    """Salt and hash of each name."""
    tokens: dict[str, str]
    """The names that hashes of tokens stand for."""


@dataclass(eq=False)
class Access:
    """Who is let in; without a file and a header everybody is, as a guest."""

    file: Path | None = None
    proxy_header: str | None = None
    hosts: tuple[str, ...] = ()
    """The names it is known by, beside those of this machine; with a file and no names, any."""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    ended: dict[str, float] = field(default_factory=dict)
    """Sessions that were ended before their time, which is the value."""
    guesses: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Of each address and name, how many guesses were wrong, and until when no other one is taken."""

    @property
    def open(self) -> bool:
        return self.file is None and self.proxy_header is None


def read(path: Path) -> Accounts:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        others = os.name == "posix" and path.stat().st_mode & 0o007
    except (OSError, UnicodeError) as error:
        made = f"make it with rvm serve --auth {path} --add-user NAME"
        raise InputError(f"--auth {path} cannot be read: {made}") from error
    if others:
        raise InputError(f"--auth {path} can be used by everybody on this machine: chmod 600 {path}")
    passwords, tokens = {}, {}
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            match line.strip().split(":"):
                case [name, "scrypt", salt, digest]:
                    passwords[name] = bytes.fromhex(salt), bytes.fromhex(digest)
                case [name, "token", digest]:
                    tokens[digest] = name
                case _:
                    raise ValueError
        except ValueError:
            made = "expected lines that rvm serve --add-user or --add-token wrote"
            raise InputError(f"--auth {path}, line {number}: {made}") from None
    return Accounts(passwords, tokens)


def add_user(path: Path, name: str, password: str) -> None:
    """Give a person a password, in the place of the one they had."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        given = f"the password has {len(password)} characters"
        raise InputError(f"{given}: expected {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}")
    salt = secrets.token_bytes(16)
    _add(path, name, PASSWORD, f"{salt.hex()}:{_hash(password, salt).hex()}", replace=True)


def add_token(path: Path, name: str) -> str:
    """Returns a new token for programs of that person; only its hash is kept."""
    token = f"rvm_{secrets.token_urlsafe(32)}"
    _add(path, name, TOKEN, _digest(token), replace=False)
    return token


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"the name {name!r} cannot be: expected letters, digits and . @ + - _, at most 64")


def _add(path: Path, name: str, kind: str, value: str, replace: bool) -> None:
    check_name(name)
    lines = []
    if path.exists():
        read(path)  # refuses what is no such file
        lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not (replace and line.startswith(f"{name}:{kind}:"))]
    with replacing(path, overwrite=True) as unfinished, writing(path):
        unfinished.touch(0o600)
        unfinished.write_text("\n".join([*lines, f"{name}:{kind}:{value}", ""]), encoding="utf-8")
        if path.exists():
            _keep_readers(path, unfinished)


def _keep_readers(path: Path, unfinished: Path) -> None:
    """Let those read the new file who could read the old one; if its owner cannot be kept, only who writes it."""
    old = path.stat()
    with contextlib.suppress(PermissionError):
        if hasattr(os, "chown"):
            os.chown(unfinished, old.st_uid, old.st_gid)
        unfinished.chmod(old.st_mode & 0o770)


def _accounts(path: Path) -> Accounts:
    """The file as it is now; while it cannot be read, the server's owner is told why."""
    try:
        return read(path)
    except InputError as error:
        print(f"rvm: {error}", file=sys.stderr)
        raise UnreadableError("it cannot be told now who may use this server: tell its owner") from error


def check_password(access: Access, name: str, password: str) -> bool:
    """Takes some 50 ms, as long for a name that is not there."""
    assert access.file is not None
    salt, expected = _accounts(access.file).passwords.get(name, (bytes(16), bytes(32)))
    return hmac.compare_digest(_hash(password, salt), expected)


def delay(access: Access, keys: Iterable[str]) -> int:
    """For how many seconds no guess is taken of these addresses and names."""
    left = max(access.guesses.get(key, (0, 0.0))[1] for key in keys) - time.monotonic()
    return max(0, math.ceil(left))


def note_guess(access: Access, keys: Iterable[str], right: bool) -> None:
    """After some wrong guesses each one doubles the delay before the next."""
    for key in keys:
        count, _ = access.guesses.pop(key, (0, 0.0))  # the latest stand at the end
        if not right:
            wait = 2.0 ** (count - FREE_GUESSES) if count >= FREE_GUESSES else 0.0
            access.guesses[key] = min(count + 1, 30), time.monotonic() + min(wait, LONGEST_DELAY)
    while len(access.guesses) > MOST_GUESSERS:
        access.guesses.pop(next(iter(access.guesses)))


def guest() -> str:
    return f"guest:{secrets.token_urlsafe(12)}"


def start_session(access: Access, person: str) -> str:
    """A cookie's value that says who it is until when, signed."""
    content = json.dumps([person, time.time() + SESSION_SECONDS, secrets.token_urlsafe(6)]).encode()
    value = base64.urlsafe_b64encode(content).decode()
    return f"{value}.{_signature(access, value, person)}"


def end_session(access: Access, cookie: str) -> None:
    now = time.time()
    access.ended = {value: end for value, end in access.ended.items() if end > now}
    if session_person(access, cookie) is not None:
        access.ended[cookie] = now + SESSION_SECONDS


def session_person(access: Access, cookie: str) -> str | None:
    value, _, signature = cookie.partition(".")
    try:
        person, until, _ = json.loads(base64.urlsafe_b64decode(value))
    except (binascii.Error, RecursionError, TypeError, ValueError):
        return None
    if not isinstance(person, str) or person.startswith("guest:") != access.open or cookie in access.ended:
        return None
    if not hmac.compare_digest(_signature(access, value, person).encode(), signature.encode()):
        return None
    return person if time.time() < until else None


def token_person(access: Access, token: str) -> str | None:
    if access.file is None:
        return None
    name = _accounts(access.file).tokens.get(_digest(token))
    return None if name is None else f"person:{name}"


def _signature(access: Access, value: str, person: str) -> str:
    """Also of the person's password, so that sessions end with it."""
    stored = _accounts(access.file).passwords.get(person.removeprefix("person:")) if access.file else None
    return hmac.new(access.secret, f"{value} {stored}".encode(), "sha256").hexdigest()


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="surrogatepass"), salt=salt, n=2**14, r=8, p=1, dklen=32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
