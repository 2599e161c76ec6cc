"""Phrases that people who read English as a second language have to read twice."""

import re
import subprocess

from conftest import PROJECT

# Phrase, and what to write.
PHRASES = {
    r"(?<!here )\bis no (?!longer|more|other|need|way|such|room)[a-z]+": "is not a ...",
    r"\bis none of\b": "is not one of ...",
}


def test_no_phrase_has_to_be_read_twice():
    """`there is no` is fine."""
    kinds = ["*.rs", "*.py", "*.md", "*.yml", "*.nix", "*.sh"]
    files = subprocess.run(["git", "ls-files", *kinds], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()
    assert files
    found = []
    for name in files:
        if name.endswith("test_words.py"):
            continue
        for number, line in enumerate((PROJECT / name).read_text().splitlines(), 1):
            found += [f"{name}:{number}: write '{instead}': {line.strip()}" for phrase, instead in PHRASES.items() if re.search(phrase, line)]
    assert found == []
