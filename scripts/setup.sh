#!/usr/bin/env bash
# Install what the project needs on a fresh Debian or Ubuntu machine: system packages, a Rust
# toolchain when there is none recent enough, and a Python environment with Ansible in .venv/.
# Safe to run again; does nothing (and needs no root) when everything is there.
#
#   scripts/setup.sh [PART ...]   PART: build, guest, ansible, test (without a PART: these four); site, browser, recording
set -euo pipefail
cd "$(dirname "$0")/.."
# Where rustup puts its toolchains' commands.
export PATH=$HOME/.cargo/bin:$PATH

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

build_packages=(build-essential pkg-config libssl-dev git ca-certificates curl)
# debian-archive-keyring: the images are made of Debian's packages, on Ubuntu too.
guest_packages=(qemu-utils ovmf seabios ipxe-qemu xorriso mmdebstrap debian-archive-keyring squashfs-tools isolinux
  syslinux-common mtools dosfstools cpio lz4 zstd e2fsprogs fdisk openssh-client rsync)
# mmdebstrap without root.
[ "$(id -u)" = 0 ] || guest_packages+=(uidmap)
# xorriso and qemu-img: what is in the drives of simulated machines. libwrap0: what the unpacked sshd needs.
test_packages=(procps iproute2 xorriso qemu-utils libwrap0)
# Unpacked under .cache/packages, never installed: their services have no business on this machine.
unpacked_packages=(openssh-server cloud-init)
site_packages=(graphviz)
mdbook_version=0.5.4
ansible_packages=(python3 python3-venv openssh-client)

apt_options=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
apt_updated=
apt_get() {
  command -v apt-get >/dev/null || die "only Debian and Ubuntu are set up by this script; install by hand: $*"
  if [ -z "$apt_updated" ]; then
    as_root apt-get "${apt_options[@]}" update -qq
    apt_updated=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_options[@]}" "$@"
}

# Install packages, and never remove one for them: on a machine with packages of backports apt may prefer that.
apt_install() {
  apt_get install -qq -y --no-remove --no-install-recommends "$@" >/dev/null && return
  local removed
  removed=$(apt-get "${apt_options[@]}" install -s -qq --no-install-recommends "$@" 2>/dev/null | awk '$1 == "Remv" { print $2 }')
  [ -z "$removed" ] || printf 'setup: to install %s, apt would remove: %s\n' "$*" "${removed//$'\n'/ }" >&2
  return 1
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

packages() {
  local missing=()
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] || {
    say "apt: ${missing[*]}"
    apt_install "${missing[@]}"
  }
}

unpacked() {
  local package destination deb
  for package in "$@"; do
    destination=.cache/packages/$package
    [ -d "$destination" ] && continue
    say "apt (unpacked in $destination): $package"
    [ -n "$apt_updated" ] || { as_root apt-get "${apt_options[@]}" update -qq; apt_updated=1; }
    local download
    download=$(mktemp -d)
    (cd "$download" && apt-get "${apt_options[@]}" download -qq "$package")
    # Where Ubuntu since 25.04 has what cloud-init consists of.
    if apt-cache show "$package-base" >/dev/null 2>&1; then
      (cd "$download" && apt-get "${apt_options[@]}" download -qq "$package-base")
    fi
    mkdir -p .cache/packages
    for deb in "$download"/*.deb; do dpkg-deb -x "$deb" "$download/tree"; done
    chmod 755 "$download/tree"
    mv "$download/tree" "$destination"
    rm -rf "$download"
  done
}

# QEMU must match the qemu-utils that is already there: on a machine whose qemu-utils came from
# backports, the release's own qemu-system-x86 is refused ("held broken packages"). Then it is
# taken from backports too, through package lists of its own: /etc/apt stays as it is.
qemu() {
  if ! command -v qemu-system-x86_64 >/dev/null; then
    say "apt: qemu-system-x86"
    if ! apt_install qemu-system-x86 2>/dev/null; then
      qemu_from_backports
    fi
  fi
  command -v qemu-system-x86_64 >/dev/null || die "qemu-system-x86 could not be installed"
}

qemu_from_backports() {
  local codename lists
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  lists=$(mktemp -d)
  mkdir -p "$lists/partial" "$lists/sources"
  cp /etc/apt/sources.list.d/debian.sources "$lists/sources/"
  cat >"$lists/sources/backports.sources" <<SOURCES
Types: deb
URIs: $(awk '$1 == "URIs:" { print $2; exit }' /etc/apt/sources.list.d/debian.sources)
Suites: $codename-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  local own=(-o "Dir::State::lists=$lists" -o Dir::Etc::sourcelist=/dev/null
    -o "Dir::Etc::sourceparts=$lists/sources")
  as_root apt-get "${apt_options[@]}" "${own[@]}" update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_options[@]}" "${own[@]}" install -qq -y --no-remove \
    --no-install-recommends "qemu-system-x86/$codename-backports" "qemu-system-common/$codename-backports" \
    "qemu-system-data/$codename-backports" "seabios/$codename-backports" ipxe-qemu >/dev/null
  as_root rm -rf "$lists"
}

rust_is_recent() {
  local wanted
  wanted=$(awk -F'"' '$1 ~ /^rust-version/ { print $2 }' Cargo.toml)
  have=$(cargo --version 2>/dev/null | awk '{ print $2 }') || true
  [ -n "$have" ] && printf '%s\n%s\n' "$wanted" "$have" | sort -VC
}

rust() {
  local have=
  if rust_is_recent; then return; fi
  say "Rust (found: ${have:-none})"
  command -v rustup >/dev/null || apt_install rustup 2>/dev/null ||
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
  # Also brings an older stable up to date.
  rustup toolchain install stable --profile minimal --component rustfmt --component clippy
  rustup default stable
  hash -r
  rust_is_recent || die "cargo is $have, which is too old: $(command -v cargo) comes before the one of rustup"
}

rust_linters() {
  if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return; fi
  say "rustfmt and clippy"
  rustup component add rustfmt clippy
}

# For scripts/check-nix.sh. The package nix-bin holds programs only, no daemon, and what those write
# goes to .cache. scripts/test.sh says so where the flake could not be checked.
nix_programs() {
  if command -v nix >/dev/null; then return; fi
  (packages nix-bin) || printf 'setup: nix-bin could not be installed: the flake will not be checked\n' >&2
}

mdbook() {
  if [ "$(.programs/bin/mdbook --version 2>/dev/null)" = "mdbook v$mdbook_version" ]; then return; fi
  say "mdBook $mdbook_version, compiled into .programs"
  cargo install --quiet --locked mdbook --version "$mdbook_version" --no-default-features --features search --root .programs
}

# Any Chromium will do. Ubuntu has it as a snap only, which apt-get does not install here.
browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then return; fi
  done
  (packages chromium) || die "chromium could not be installed: install Chromium or Google Chrome by hand"
}

# The newest Python found decides which ansible-core pip can install: 2.21 wants 3.12.
python() {
  local candidate
  for candidate in python3.14 python3.13 python3.12 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

venv() { # venv NAME: .venv with scripts/requirements/NAME.txt
  local stamp=.venv/$1.stamp requirements=scripts/requirements/$1.txt found
  if .venv/bin/python -c '' 2>/dev/null && cmp -s "$requirements" "$stamp"; then return; fi
  packages "${ansible_packages[@]}"
  found=$(python) || die "no Python 3.10 or newer with venv was found"
  say "Python packages of $requirements ($("$found" --version))"
  # One whose making was cut off, or whose Python is gone, is made anew.
  .venv/bin/python -m pip --version >/dev/null 2>&1 || "$found" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$stamp"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(build guest ansible test)
for part in "${parts[@]}"; do
  case $part in
    build) packages "${build_packages[@]}"; rust ;;
    guest) packages "${guest_packages[@]}"; qemu ;;
    ansible) venv ansible ;;
    test) packages "${test_packages[@]}"; unpacked "${unpacked_packages[@]}"; rust_linters; nix_programs; venv test ;;
    site) packages "${build_packages[@]}" "${site_packages[@]}"; rust; mdbook ;;
    browser) browser; venv test ;;
    recording) venv recording ;;
    *) die "unknown part $part: build, guest, ansible, test, site, browser or recording" ;;
  esac
done
