"""The reference of the command line, made from what `--help` is made from.

`{devnest-command} serve` documents a command, or every command of a group. `{devnest-variables}
serve` is the table of a command's environment variables. `{program-help} -m devnest.pool serve`
shows what a Python program prints.
"""

import re
import subprocess
import sys
from functools import cache
from typing import Any

import typer
import typer.main
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from devnest.cli.commands import app as devnest

EXTRA = re.compile(
    r"\s*\[([^\[\]]*)\]$"
)  # what follows the help text: [env var: X; default: Y; required]
MARKDOWN = re.compile(r"([*_<>\[\]|\\])")


@cache
def root() -> tuple[Any, Any]:
    """Return the `devnest` command and its context."""
    command = typer.main.get_command(devnest)
    return command, typer.Context(command, info_name="devnest")


def find(name: str) -> tuple[Any, Any]:
    """Return a command of `devnest` and its context."""
    group, parent = root()
    command = group.get_command(parent, name)
    if command is None:
        raise LookupError(f"devnest has no command {name}")
    return command, typer.Context(command, info_name=name, parent=parent)


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", text)


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text}`"


class Parameter:
    """An option or an argument, as its help tells it."""

    def __init__(self, parameter: Any, context: Any) -> None:
        names, text = parameter.get_help_record(context)
        found = EXTRA.search(text)
        self.names: str = names
        self.text: str = EXTRA.sub("", text).strip()
        self.notes: dict[str, str] = {}
        for note in found[1].split("; ") if found else []:
            key, _, value = note.partition(": ")
            self.notes[key] = value.strip("()")

    @property
    def is_option(self) -> bool:
        """Whether it begins with hyphens."""
        return self.names.startswith("-")

    @property
    def bounds(self) -> str | None:
        """The range of a number, as `1<=x<=64`."""
        return next((key for key in self.notes if "x" in key and "<" in key), None)

    def markdown(self) -> str:
        """Return its description."""
        facts = []
        if "required" in self.notes:
            facts.append("Required.")
        if "default" in self.notes:
            facts.append(f"Default: {code(self.notes['default'])}.")
        if self.bounds:
            facts.append(f"Range: {code(self.bounds)}.")
        if "env var" in self.notes:
            facts.append(f"Variable: {code(self.notes['env var'])}.")
        head = (
            f"````{{option}} {self.names}" if self.is_option else f"````{{describe}} {self.names}"
        )
        return "\n".join([head, escaped(self.text), "", " ".join(facts), "````", ""])


def shown(command: Any, context: Any) -> list[Parameter]:
    """Return what a command takes, without `--help`."""
    return [
        Parameter(parameter, context)
        for parameter in command.params
        if parameter.name != "help" and parameter.get_help_record(context)
    ]


def document(command: Any, context: Any) -> list[str]:
    """Return a command's reference; of a group, that of each of its commands."""
    text = (command.help or "").split("\f")[0].strip()
    if hasattr(command, "commands"):
        blocks = [escaped(text), ""]
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            blocks += [f"### devnest {context.info_name} {name}", ""]
            blocks += document(inner, typer.Context(inner, info_name=name, parent=context))
        return blocks
    usage = command.get_usage(context).removeprefix("Usage: ").strip()
    program = usage.split(" [")[0]
    blocks = [
        "```text",
        usage,
        "```",
        "",
        escaped(text),
        "",
        f"```{{program}} {program}",
        "```",
        "",
    ]
    return blocks + [parameter.markdown() for parameter in shown(command, context)]


class Generated(SphinxDirective):
    """A directive whose content is Markdown that a function writes."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"class": directives.class_option}  # noqa: RUF012 (docutils' interface)

    def lines(self, argument: str) -> list[str]:
        """Return the Markdown for the directive's argument."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse it in place."""
        return self.parse_text_to_nodes(
            "\n".join(self.lines(self.arguments[0])), allow_section_headings=True
        )


class Command(Generated):
    """`{devnest-command} NAME`."""

    def lines(self, argument: str) -> list[str]:
        """Document the command."""
        return document(*find(argument))


class Variables(Generated):
    """`{devnest-variables} NAME`."""

    def lines(self, argument: str) -> list[str]:
        """Return one row for each option with a variable."""
        rows = ["| variable | option | default |", "| --- | --- | --- |"]
        for parameter in shown(*find(argument)):
            if variable := parameter.notes.get("env var"):
                default = parameter.notes.get("default")
                option = parameter.names.replace("|", r"\|")
                rows.append(
                    f"| `{variable}` | `{option}` | {code(default) if default else 'none'} |"
                )
        return rows


class ProgramHelp(Generated):
    """`{program-help} -m MODULE ...`."""

    def lines(self, argument: str) -> list[str]:
        """Return what the program prints for `--help`."""
        answer = subprocess.run(
            [sys.executable, *argument.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        return ["```text", answer.stdout.strip(), "```"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("devnest-command", Command)
    app.add_directive("devnest-variables", Variables)
    app.add_directive("program-help", ProgramHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
