#!/usr/bin/env bash
# testing/nix/wrapper.sh DIRECTORY FLAKE EXAMPLE: the role's wrapper over flakes, evaluated. Facts reach a configuration that has the
# guest module, and change no other. scripts/check-nix.sh calls it.
set -euo pipefail
dir=$1 flake=$2 example=$3 # an absolute directory to work in, and references of the two flakes
here=$(cd "$(dirname "$0")" && pwd)
wrapper=$here/../../crates/nixos_vm_lifecycle/src/system_facts/flake.nix

evaluate() { nix eval --raw --no-write-lock-file "$@"; }
wrapped() { # wrapped FLAKE NAME FACTS ATTRIBUTE [OPTION...]
  local machines=$1 name=$2 facts=$3 attribute=$4
  shift 4
  rm -rf "$dir"
  mkdir "$dir"
  cp "$wrapper" "$dir/flake.nix"
  printf '%s' "$facts" >"$dir/facts.json"
  printf '{"name": "%s"}' "$name" >"$dir/machine.json"
  evaluate --override-input machines "$machines" "$@" "path:$dir#nixosConfigurations.\"$name\".config.$attribute"
}
same() { # same WHAT EXPECTED FOUND
  [ "$2" = "$3" ] || { echo "$1: expected $2, got $3" >&2; exit 1; }
}

stand_ins=(--override-input machines/nixos-proxmox "$flake")
for input in nixpkgs disko impermanence; do
  stand_ins+=(--override-input "machines/$input" "path:$here/$input")
done
facts='{"address": "198.51.100.7", "hostName": "renamed", "ofTheFuture": 1}'
network='systemd.network.networks."10-nixos-proxmox"'
for machine in web1 vault1; do
  found=$(wrapped "$example" "$machine" "$facts" "$network.address" --apply toString "${stand_ins[@]}")
  same "the address of $machine" 198.51.100.7/24 "$found"
  # What the facts do not have stays as the flake has it.
  found=$(wrapped "$example" "$machine" "$facts" "$network.routes" --apply 'routes: (builtins.head routes).Gateway' "${stand_ins[@]}")
  same "the gateway of $machine" 192.0.2.1 "$found"
  found=$(wrapped "$example" "$machine" "$facts" system.build.toplevel.drvPath "${stand_ins[@]}")
  [[ $found = *-nixos-system-renamed.drv ]] || same "the system of $machine" '...-nixos-system-renamed.drv' "$found"
done
# shellcheck disable=SC2016
found=$(wrapped "$example" web1 '{"hostName": "${builtins.abort \"code\"}"}' networking.hostName "${stand_ins[@]}")
# shellcheck disable=SC2016
same "a fact that looks like code" '${builtins.abort "code"}' "$found"

toplevel=system.build.toplevel.drvPath
direct=$(evaluate --override-input nixpkgs "path:$here/nixpkgs" "$flake#nixosConfigurations.x86_64.config.$toplevel")
found=$(wrapped "$flake" x86_64 "$facts" "$toplevel" --override-input machines/nixpkgs "path:$here/nixpkgs")
same "the installer, which has no guest module" "$direct" "$found"
found=$(wrapped "path:$here/wrapper" by.hand "$facts" name)
same "a configuration made by hand" "built by hand" "$found"

if found=$(wrapped "path:$here/wrapper" web1 "$facts" name 2>&1); then
  same "a name that does not exist" "an error" "$found"
fi
grep -qF 'the flake has no nixosConfigurations.web1 (available: by.hand with.guest)' <<<"$found" ||
  same "a name that does not exist" "its error" "$found"

# Every form in which people refer to a flake, as in an installable: relative to the working directory, in a Git repository or not.
# Not below this repository, which would be the flake.
forms=$(mktemp -d)
trap 'rm -rf "$forms"' EXIT
mkdir -p "$forms/repository/hosts"
cd "$forms"
cp "$here/wrapper/flake.nix" repository/
cp "$here/wrapper/flake.nix" repository/hosts/
nix flake lock ./repository 2>/dev/null || true
git -C repository init --quiet
git -C repository add --all
git -C repository -c user.name=test -c user.email=test@example.org commit --quiet --message=test
cp -r repository dirty
echo "# changed" >>dirty/flake.nix
cp -r repository/hosts plain
tar -czf plain.tar.gz plain
for machines in ./repository "$PWD/repository" ./repository/hosts "./repository?dir=hosts" "git+file://$PWD/repository?dir=hosts" \
  "git+file://$PWD/repository" ./dirty "git+file:$PWD/dirty" "path:$PWD/plain" ./plain path:./plain "file://$PWD/plain.tar.gz"; do
  same "$machines" renamed "$(wrapped "$machines" with.guest "$facts" name)"
done
same "what is changed in the repository" "" "$(git -C repository status --porcelain)"
