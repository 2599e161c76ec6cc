# shellcheck shell=bash
# Where Debian packages come from; sourced by the image builders. Sets $release, $mirror, $keyring.

release=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The mirror this machine uses if it is a Debian (it may be the only one reachable).
debian_mirror() {
  local found=
  # shellcheck source=/dev/null
  if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    found=$(awk '$1 == "URIs:" { for (i = 2; i <= NF; i++) if ($i ~ /debian\/?$/) { print $i; exit } }' \
      /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
    [ -n "$found" ] || found=$(awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:.*debian\/?$/) { print $i; exit } }' \
      /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true)
  fi
  printf '%s\n' "${found:-http://ftp.debian.org/debian}"
}
mirror=$(debian_mirror)
[ -e "$keyring" ] || {
  echo "the Debian archive's keyring is missing: install debian-archive-keyring" >&2
  exit 1
}

# debian_unpack TREE PACKAGE...: the packages and all they depend on, unpacked only: no maintainer
# script runs, so no privilege is needed. Downloads are kept in $CACHE/debs. What only maintainer
# scripts would use is left packed.
debian_unpack() {
  local tree=$1 state
  shift
  state=$(mktemp -d "$WORK/apt.XXXXXX")
  mkdir -p "$state/lists/partial" "$state/sources" "$CACHE/debs/partial"
  : >"$state/status"
  cat >"$state/sources/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $release
Components: main
Architectures: amd64
Signed-By: $keyring
SOURCES
  local options=(-q
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root
    -o APT::Install-Recommends=false -o Acquire::Retries=3 -o Acquire::Languages=none
    -o Debug::NoLocking=true -o Dir::Cache="$state" -o Dir::Cache::archives="$CACHE/debs"
    -o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status"
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$state/sources"
    -o Dir::Etc::preferencesparts=/dev/null)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" --yes --download-only install "$@"
  mkdir -p "$tree"
  apt-get "${options[@]}" --simulate install "$@" | awk '$1 == "Inst" { gsub(/[()]/, ""); print $2, $3 }' >"$state/chosen"
  while read -r package version; do
    case $package in
      perl* | libperl* | *-perl | debconf | dpkg | adduser | udev | initramfs-tools* | usrmerge) continue ;;
    esac
    local file
    file=$(printf '%s_%s_' "$package" "${version//:/%3a}")
    file=$(printf '%s\n' "$CACHE/debs/$file"*.deb | head -n 1)
    [ -e "$file" ] || { echo "apt did not fetch $package $version" >&2; return 1; }
    dpkg-deb --fsys-tarfile "$file" |
      tar -x -C "$tree" --keep-directory-symlink --no-same-owner \
        --exclude './usr/share/doc/*' --exclude './usr/share/man/*' --exclude './usr/share/locale/*'
  done <"$state/chosen"
}
