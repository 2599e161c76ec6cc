"""Tests in a network namespace of their own."""

import os
import subprocess
import sys

from project import PROJECT


def run_in_own_network(file, functions, setup, limit=2400):
    """Run the functions of a file of tests, whose names fit a pattern, in a network that shell commands have set up, and assert that they pass."""
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    test = [sys.executable, "-m", "pytest", "-q", file, "-o", f"python_functions={functions}"]
    done = subprocess.run(
        [*namespace, "sh", "-c", f'{setup} && exec "$@"', "sh", *test],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit, check=False,
    )
    # pytest ends with 5 if it finds no test.
    assert done.returncode == 0, done.stdout
