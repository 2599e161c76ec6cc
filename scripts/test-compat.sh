#!/usr/bin/env bash
# scripts/test-compat.sh: the modules, the role and the callback plugin under the oldest ansible-core that is supported and
# the newest that a Python of this computer can install, each in a venv under .cache. Uses the modules in library/.
# COMPAT="2.17 2.18.1 next" tests these versions instead; `next` is the newest one, release candidates and betas included.
set -euo pipefail
cd "$(dirname "$0")/.."

oldest=2.15
# With what the tests import, and what Debian's cloud-init does, which they run as a library.
packages=(configobj jsonpatch jsonschema oauthlib pytest pyyaml requests)
die() { printf 'test-compat: %s\n' "$*" >&2; exit 1; }

# The Pythons of this computer as "MINOR PATH", oldest first: those in PATH and pyenv's.
pythons() {
  local candidate
  for candidate in python3.{9..19} "$HOME"/.pyenv/versions/3.*/bin/python3; do
    "$candidate" -c 'import sys, venv, ensurepip; print(sys.version_info[1], sys.executable)' 2>/dev/null || true
  done | sort -n -u
}

# The Pythons that an ansible-core takes, from its own metadata, are pip's to know: the first that installs it is used.
install() { # install VERSION VENV: the order of Pythons comes in on standard input
  local minor python
  while read -r minor python; do
    [ "$minor" -ge 9 ] || continue
    rm -rf "$2"
    "$python" -m venv "$2"
    if "$2/bin/python" -m pip install --quiet --disable-pip-version-check "ansible-core$1" "${packages[@]}" 2>"$2/pip.log"; then
      "$2/bin/ansible" --version >/dev/null && echo "${packages[*]}" >"$2/complete" && return
    fi
  done
  die "no Python of this computer installs ansible-core$1: see $2/pip.log"
}

venv() { # venv VERSION
  local path=.cache/compat-$1
  if [ "$(cat "$path/complete" 2>/dev/null)" != "${packages[*]}" ]; then
    case $1 in
      newest) pythons | sort -rn | install ">=$oldest" "$path" ;;
      # A bound that is itself a beta makes pip consider those of ansible-core, but not those of other packages.
      next) pythons | sort -rn | install ">=$oldest.0b1" "$path" ;;
      *.*.*) pythons | install "==$1" "$path" ;;
      *) pythons | install "==$1.*" "$path" ;;
    esac
  fi
  echo "$PWD/$path"
}

[ -x library/proxmox_iso ] || die "build the modules first: make build"
for version in ${COMPAT:-$oldest newest}; do
  path=$(venv "$version")
  printf '\n== %s, Python %s\n' "$("$path/bin/ansible" --version | head -n 1)" "$("$path/bin/python" -c 'import platform; print(platform.python_version())')"
  "$path/bin/ansible-playbook" --syntax-check -i inventory provision.yml playbooks/destroy.yml
  "$path/bin/ansible-doc" -t role -r roles nixos_vm >/dev/null
  ANSIBLE_VENV=$path "$path/bin/pytest" -q -p no:cacheprovider testing/pytest/modules testing/pytest/role testing/pytest/callback testing/pytest/inventory
done
