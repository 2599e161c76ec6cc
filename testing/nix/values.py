"""Compares what values.nix evaluates to with values.json, and compiles the boot test's program and the shell scripts.

    values.py EVALUATED.json            a difference is shown, and fails
    values.py EVALUATED.json --update   writes values.json
"""

import difflib
import json
import subprocess
import sys
from pathlib import Path

EXPECTED = Path(__file__).resolve().with_name("values.json")

evaluated = json.loads(Path(sys.argv[1]).read_text())
compile(evaluated["program"], "nix/boot-test.nix", "exec")
for name, script in evaluated["scripts"].items():
    if subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode:
        sys.exit(f"the shell script of {name} has a syntax error")
found = json.dumps(evaluated["values"], indent=2) + "\n"
if sys.argv[2:] == ["--update"]:
    EXPECTED.write_text(found)
expected = EXPECTED.read_text()
if found != expected:
    sys.stderr.writelines(difflib.unified_diff(expected.splitlines(True), found.splitlines(True), "testing/nix/values.json", "evaluated", n=5))
    sys.exit("the systems are not those of testing/nix/values.json; if that is wanted: scripts/check-nix.sh --update")
