"""--help: instant, because nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from quantlab import __version__
from quantlab.cli import VERBS, main

OF_A_SERVICE = ("serve", "worker", "dataset", "token")
HEAVY = ("onnxruntime", "onnx", "numpy", "pandas", "scipy", "matplotlib", "PIL", "rich")
ONLY_FOR_A_VERB = ("pydantic",)
"""What declares the options of a verb."""
LOOK = """
import sys
from quantlab.cli import main
try:
    main(sys.argv[1:], prog_name="quantlab")
except SystemExit as end:
    print("exit", end.code)
print("loaded", *[name for name in {heavy!r} if name in sys.modules])
own = [name for name in sys.modules if name.split(".")[0] not in sys.stdlib_module_names]
print(len([name for name in own if name.split(".")[0] == "quantlab"]), len(own))
"""
MOST_MODULES = {"": (35, 70), "tune": (45, 180)}
"""Of quantlab, and with those of its libraries: the first help is of all verbs, and tune has the
targets' and the recipe's words."""
MOST_OF_ANOTHER = (25, 135)


def asked(*words: str) -> str:
    """What a fresh process prints: the help, its exit code, the heavy modules it loaded."""
    heavy = HEAVY if words[0] in VERBS else HEAVY + ONLY_FOR_A_VERB
    command = [sys.executable, "-c", LOOK.format(heavy=heavy), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def all_commands() -> Iterator[tuple[str, ...]]:
    """Verbs, and those that are of one."""
    for verb in VERBS:
        yield (verb,)
        command = main.get_command(click.Context(main), verb)
        if isinstance(command, click.Group):
            yield from ((verb, name) for name in command.commands)


@pytest.mark.parametrize("words", [(), *all_commands()])
def test_help_loads_nothing_heavy_and_little_at_all(words: tuple[str, ...]) -> None:
    *text, code, loaded, counts = asked(*words, "--help").splitlines()
    assert (code, loaded.strip()) == ("exit 0", "loaded")
    assert " ".join(["Usage: quantlab", *words]) in "\n".join(text)
    own, all_of = map(int, counts.split())
    most_own, most = MOST_MODULES.get(" ".join(words), MOST_OF_ANOTHER)
    assert 0 < own <= most_own
    assert own < all_of <= most


def test_the_version() -> None:
    assert __version__ in asked("--version")


def test_importing_quantlab_loads_nothing_heavy() -> None:
    code = (
        f"import sys, quantlab; print([n for n in {HEAVY + ONLY_FOR_A_VERB!r} if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is_for_or_has_a_plain_default(verb: str) -> None:
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    parts = command.commands.values() if isinstance(command, click.Group) else ()
    for each in parts or (command,):
        assert each.short_help
        assert each.help
        names = {name for p in each.params for name in p.opts}
        served = {"--home", "--config", "--db", "--store"}
        own = served if verb in OF_A_SERVICE else {"--runs-dir", "--json", "--quiet"}
        assert own <= names


def test_unknown_verbs_and_options_are_usage_errors(cli) -> None:  # type: ignore[no-untyped-def]
    assert "No such command 'tun'" in cli("tun", code=2).err
    assert "No such option" in cli("evaluate", "--nope", code=2).err
    assert "Missing argument" in cli("evaluate", code=2).err
