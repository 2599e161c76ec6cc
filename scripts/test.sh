#!/usr/bin/env bash
# scripts/test.sh [lint|quick|faults|site]: the tests. Without an argument: the linters and all tests but those of `faults` and `site`.
# `lint`: formatting and linters only. `quick`: without virtual machines. `faults`: the whole kill matrix, of which the default runs a
# sample. `site`: build the documentation's site and test it in a browser.
set -euo pipefail
cd "$(dirname "$0")/.."
export ANSIBLE_CONFIG=$PWD/ansible.cfg
export ANSIBLE_FORCE_COLOR=0 PY_COLORS=0 NO_COLOR=1
# A snapshot that differs is a failure, and nothing is written.
export INSTA_UPDATE=no

say() { printf '\n== %s\n' "$*"; }
timings=()
# Two files of tests at once: the tests of one share a test host, or an address.
at_once=(-n 2 --dist loadfile)
step() {
  local title=$1 start=$SECONDS
  shift
  say "$title"
  "$@" || { printf '\nFAILED: %s\n' "$title" >&2; exit 1; }
  timings+=("$(printf '%4d s  %s' $((SECONDS - start)) "$title")")
}

# The shell scripts of the repository, by their names or first lines.
shell_scripts() {
  local file line
  git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    case $file in
      *.sh) line='#!/bin/sh' ;;
      *) IFS= read -r line <"$file" || true ;;
    esac 2>/dev/null
    if [[ $line =~ ^'#!'.*[/\ ](ba|da)?sh( |$) ]]; then printf '%s\0' "$file"; fi
  done
}

check_shell() {
  local scripts
  mapfile -d '' -t scripts < <(shell_scripts)
  [ ${#scripts[@]} -gt 0 ] || { echo "no shell scripts were found; run this in a clone" >&2; return 1; }
  shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
}

lint() {
  step "cargo fmt" cargo fmt --all --check
  step "cargo clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings
  step "cargo doc" env RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --workspace --no-deps
  step "the modules' documentation is that of their types" cargo run --quiet --package xtask -- docs --check
  step "typos" typos
  step "yamllint" yamllint --strict .
  step "shellcheck" check_shell
  step "ansible-lint" ansible-lint --offline --strict -q
  if command -v nix >/dev/null; then
    step "the flake, evaluated without nixpkgs" scripts/check-nix.sh
  else
    say "NOT CHECKED: the flake, since there is no Nix on this computer"
    timings+=("   -    NOT CHECKED: the flake (no Nix)")
  fi
}

mode=${1:-all}
case $mode in
  lint) ;;
  quick) step "set up" scripts/setup.sh build ansible test ;;
  site) step "set up" scripts/setup.sh site browser ;;
  all | faults) step "set up" scripts/setup.sh ;;
  *) echo "usage: scripts/test.sh [lint|quick|faults|site]" >&2; exit 2 ;;
esac
# A Rust toolchain that setup.sh installs with rustup is in ~/.cargo/bin.
export PATH=$PWD/.venv/bin:$HOME/.cargo/bin:$PATH

if [ "$mode" = faults ]; then
  step "build the modules" cargo xtask install
  step "build the test host" cargo build --quiet --release -p pve-testhost
  step "the kill matrix (pytest)" pytest -s testing/pytest/faults
  exit
fi

if [ "$mode" = site ]; then
  step "build the site, and check its links" cargo run --quiet --package xtask -- site
  step "the site in a browser (pytest)" pytest testing/pytest/site
  exit
fi

lint
if [ "$mode" != lint ]; then
  # In the profile of `cargo test`, so that everything is compiled once.
  step "build the modules" cargo run --quiet --package xtask -- install --debug
  step "build the test host" cargo build --quiet --package pve-testhost
  export PVE_TESTHOST=$PWD/target/debug/pve-testhost XTASK=$PWD/target/debug/xtask
  if [ "$mode" = all ]; then
    step "build the installer stand-in, tiny" testing/images/build.sh tiny
    step "build the installer stand-in with the real cloud-init" testing/images/build.sh debian
  fi
  step "cargo test" cargo test --workspace --quiet --no-fail-fast
  step "the stand-ins keep to the command lines they stand in for (pytest)" pytest testing/stand-in
  step "the modules and the role under ansible-playbook (pytest)" pytest "${at_once[@]}" testing/pytest/modules testing/pytest/deploy testing/pytest/role testing/pytest/callback testing/pytest/inventory testing/pytest/packaging testing/pytest/docs
  step "the lifecycle of machines, on simulated guests (pytest)" pytest "${at_once[@]}" testing/pytest/simulation testing/pytest/lifecycle
  step "molecule: the modules in every state, without virtual machines" molecule test -s modules
fi
if [ "$mode" = all ]; then
  step "molecule: two machines at once, from nothing to installed" molecule test -s default
  step "the flow: killed and taken up again, in a foreign repository, the real cloud-init (pytest)" pytest "${at_once[@]}" testing/pytest/flow
  step "a sample of the kill matrix; make test-faults runs all of it (pytest)" pytest "${at_once[@]}" testing/pytest/faults -m sample
fi
say "All passed"
printf '%s\n' "${timings[@]}"
