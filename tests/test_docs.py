"""README, docs/ and the examples of --help: every command is one that `rvm` takes, and every link leads somewhere."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import tyro

from rvm_jax.cli import main as command_line
from rvm_jax.cli.main import COMMANDS, main
from rvm_jax.weights.released import RELEASES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# An indented line, with those that a \ at its end joins to it, or an example in a docstring.
COMMAND = re.compile(r"^    (?:\$ )?(rvm (?:[^\n]*\\\n)*[^\n]*)$", re.M)
EXAMPLE = re.compile(r"Example: (rvm [^\n\"]*)")
LINK = re.compile(r"\]\((?!http)([^)#\s]*)(?:#([^)\s]*))?\)")


def commands() -> Iterator[tuple[str, str]]:
    """(file, command) of all that a reader is told to type."""
    for path in PAGES:
        for text in COMMAND.findall(path.read_text()):
            yield path.name, text.replace("\\\n", " ")
    for path in sorted((ROOT / "rvm_jax" / "cli").glob("*.py")):
        for text in EXAMPLE.findall(path.read_text()):
            yield path.name, text


FOUND = list(dict.fromkeys((name, shlex.join(shlex.split(text, comments=True))) for name, text in commands()))


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """Commands are parsed, but do nothing except be put into this list."""
    done: list[str] = []

    def stub(function):
        @functools.wraps(function)
        def do_nothing(*_, **__):
            done.append(function.__name__)

        return do_nothing

    find = command_line._command

    def command(name: str):
        found = find(name)
        if not isinstance(found, tyro.extras.SubcommandApp):
            return stub(found)
        for spec in found._subcommands.values():
            monkeypatch.setattr(spec, "target", stub(spec.target))
        return found

    monkeypatch.setattr(command_line, "_command", command)
    return done


@pytest.mark.parametrize(("page", "command"), FOUND)
def test_commands_are_taken(page, command, ran):
    assert main(shlex.split(command)[1:]) == 0
    assert len(ran) == 1


def test_every_command_is_told_of():
    told = {command.split()[1] for page, command in FOUND if page.endswith(".md")}
    assert told == set(COMMANDS)


def test_bare_names_of_weights_are_those_of_releases():
    named = [(page, name) for page, text in FOUND for name in re.findall(r"--(?:weights|people) ([\w-]+)(?= |$)", text)]
    assert ("clean.md", "mobilenetv3") in named
    assert [(page, name) for page, name in named if name not in RELEASES] == []


def test_a_command_that_does_not_exist_would_be_seen(ran):
    with pytest.raises(SystemExit) as caught:
        main(["matte", "in.mp4", "out.mp4", "--weights", "a.pth", "--no-such-option"])
    assert caught.value.code == 2
    assert ran == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for name, section in LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {name}"
        if section:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert section in anchors, f"{page.name} links to {name}#{section}"
