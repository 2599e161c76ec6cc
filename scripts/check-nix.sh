#!/usr/bin/env bash
# scripts/check-nix.sh [--update]: every .nix file parsed, formatted and without dead code, and both flakes
# evaluated for both architectures, with the stand-ins of testing/nix in the place of nixpkgs. What the
# systems set has to be what testing/nix/values.json says; --update writes that file. Needs no network
# but for installing the linters once, no daemon, and leaves /nix alone.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'check-nix: %s\n' "$*" >&2; exit 1; }

command -v nix >/dev/null || die "NOT CHECKED: there is no Nix on this computer; scripts/setup.sh test installs Debian's"

# A store and settings of our own, so that neither root nor a daemon is needed.
own=$PWD/.cache/nix-check
mkdir -p "$own/conf"
cat >"$own/conf/nix.conf" <<CONF
experimental-features = nix-command flakes
build-users-group =
sandbox = false
substitute = false
CONF
export NIX_STORE_DIR=$own/store NIX_STATE_DIR=$own/var NIX_LOG_DIR=$own/log NIX_CONF_DIR=$own/conf
export NIX_USER_CONF_FILES=/dev/null XDG_CACHE_HOME=$own/cache
unset NIX_REMOTE NIX_CONFIG NIX_PATH

tools=$PWD/.cache/cargo-tools
linter() { # linter BINARY CRATE VERSION
  [ "$(cat "$tools/$1.version" 2>/dev/null)" = "$3" ] && return
  echo "installing $2 $3"
  CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" "$2@$3"
  echo "$3" >"$tools/$1.version"
  rm -rf "$tools/target"
}

in_git() { git rev-parse --is-inside-work-tree >/dev/null 2>&1; }
files() { if in_git; then git ls-files '*.nix'; else find . -path ./target -prune -o -path './.*' -prune -o -name '*.nix' -print; fi; }
mapfile -t files < <(files)

# In a Git repository a flake consists of the files that Git knows, as for everybody else.
flake() { # flake DIRECTORY
  if in_git; then echo "git+file://$PWD?dir=$1"; else echo "path:$PWD/$1"; fi
}
stand_in() { echo "--override-input $1 path:$PWD/testing/nix/$1"; }
all_systems=
nix flake check --help 2>/dev/null | grep -q -- --all-systems && all_systems=--all-systems

quietly() { # quietly WHAT COMMAND...: its output only if it fails
  local what=$1 output
  shift
  output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; die "$what"; }
}

# The stand-ins have to refuse what is wrong, or passing means nothing.
refusals() {
  local name expected output
  quietly "testing/nix/refusals: a system without a mistake is refused" \
    nix-instantiate --eval testing/nix/refusals --argstr name ""
  for name in testing/nix/refusals/*.nix; do
    [ "$name" != testing/nix/refusals/default.nix ] || continue
    expected=$(sed -n '1s/^# //p' "$name")
    name=$(basename "$name" .nix)
    if output=$(nix-instantiate --eval testing/nix/refusals --argstr name "$name" 2>&1); then
      die "testing/nix/refusals/$name.nix is accepted"
    fi
    grep -qF -- "$expected" <<<"$output" || die "testing/nix/refusals/$name.nix is refused, but not for: $expected
$output"
  done
}

# What the systems set, compared with what is expected.
values() {
  nix-instantiate --eval --strict --json testing/nix/values.nix >"$own/values.json"
  python3 testing/nix/values.py "$own/values.json" "$@"
}

linter nixfmt nixfmt_rs 0.5.3
linter deadnix deadnix 1.3.1

quietly "a file is not Nix" nix-instantiate --parse "${files[@]}"
"$tools/bin/nixfmt" --check "${files[@]}" || die "format with: $tools/bin/nixfmt ${files[*]}"
"$tools/bin/deadnix" --fail "${files[@]}" || die "there is dead code"
refusals
# shellcheck disable=SC2046,SC2086
quietly "the flake" nix flake check --no-build --no-write-lock-file $all_systems $(stand_in nixpkgs) "$(flake .)"
# shellcheck disable=SC2046,SC2086
quietly "the flake of examples/nixos-config" nix flake check --no-build --no-write-lock-file $all_systems \
  $(stand_in nixpkgs) $(stand_in disko) $(stand_in impermanence) --override-input nixos-proxmox "$(flake .)" \
  "$(flake examples/nixos-config)"
quietly "what the systems set" values "$@"
quietly "the role's wrapper" testing/nix/wrapper.sh "$own/wrapper" "$(flake .)" "$(flake examples/nixos-config)"
quietly "the overlay" nix-instantiate --eval --strict testing/nix/overlay.nix
echo "${#files[@]} Nix files, two flakes on two architectures and the overlay, checked by $(nix --version) without nixpkgs"
