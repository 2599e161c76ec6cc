"""What the modules are made of: licences and sources as .cargo/deny.toml allows them, without cargo-deny, which CI has not."""

import json
import subprocess

from boolean import boolean
from conftest import PROJECT
from license_expression import Licensing

try:
    import tomllib
except ImportError:  # before Python 3.11
    import tomli as tomllib

DENY = tomllib.loads((PROJECT / ".cargo/deny.toml").read_text())


def packages():
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(done.stdout)["packages"]


def allowed(expression, allow):
    """Whether the licences that may be chosen are all allowed."""
    if isinstance(expression, boolean.OR):
        return any(allowed(part, allow) for part in expression.args)
    if isinstance(expression, boolean.AND):
        return all(allowed(part, allow) for part in expression.args)
    assert isinstance(expression, boolean.Symbol), expression
    return str(expression) in allow


def test_every_licence_is_one_that_is_allowed():
    licensing, allow = Licensing(), DENY["licenses"]["allow"]
    refused = {}
    for package in packages():
        # An older way to write OR.
        text = (package["license"] or "none").replace("/", " OR ")
        if not allowed(licensing.parse(text), allow):
            refused[package["name"]] = text
    assert refused == {}


def test_an_expression_is_read_as_it_is_meant():
    licensing = Licensing()
    for text, expected in [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Other-exception", False),
    ]:
        assert allowed(licensing.parse(text), ["MIT", "Apache-2.0 WITH LLVM-exception"]) == expected, text


def test_everything_comes_from_the_registry_or_is_ours():
    sources = {package["source"] for package in packages()}
    assert len(sources) == 2 and None in sources
    (registry,) = sources - {None}
    assert registry.startswith("registry+")
