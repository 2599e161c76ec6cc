#!/bin/sh
# The programs of a NixOS machine, as far as nixos_deploy asks for them; the name that it is called by says which. LAB is the
# directory of the test. systemd-run's unit is a process of this computer, and a restart ends it and empties /run.
set -u
profile=/nix/var/nix/profiles/system

case ${0##*/} in
systemctl)
  case $1 in
  is-active)
    if [ -e "$LAB/unit.pid" ] && kill -0 "$(cat "$LAB/unit.pid")" 2>/dev/null; then echo active; else echo inactive; exit 3; fi
    ;;
  list-units)
    while read -r unit; do echo "$unit loaded failed failed It"; done <"$LAB/failed-units"
    ;;
  reboot)
    echo reboot >>"$LAB/done"
    [ ! -e "$LAB/hangs" ] || { touch "$LAB/unreachable"; exit 0; }
    [ ! -e "$LAB/unit.pid" ] || kill -KILL "-$(cat "$LAB/unit.pid")" 2>/dev/null
    rm -rf /run/nixos-deploy
    for link in current-system booted-system; do ln -sfn "$(readlink -f "$profile")" "/run/$link"; done
    echo "boot-$(date +%N)" >"$LAB/boot_id"
    ;;
  esac
  ;;
systemd-run)
  if [ "$(systemctl is-active nixos-deploy.service)" = active ]; then
    echo "Failed to start transient service unit: Unit nixos-deploy.service was already loaded or has a fragment file." >&2
    exit 1
  fi
  while [ "$1" != /bin/sh ]; do shift; done
  setsid "$@" >/dev/null 2>&1 </dev/null &
  echo $! >"$LAB/unit.pid"
  ;;
nix-env)
  [ ! -e "$LAB/full" ] || { echo "error: No space left on device" >&2; exit 1; }
  case $3 in
  --set)
    [ "$(readlink -f "$profile")" != "$4" ] || exit 0
    newest=$(for link in "$profile"-*-link; do link=${link#"$profile"-}; echo "${link%-link}"; done | sort -n | tail -n 1)
    # As the real one does.
    if [ "$(readlink -f "$profile-$newest-link")" = "$4" ]; then ln -sfn "system-$newest-link" "$profile"; exit; fi
    ln -s "$4" "$profile-$((${newest:-0} + 1))-link"
    ln -sfn "system-$((${newest:-0} + 1))-link" "$profile"
    ;;
  --delete-generations) rm -f "$profile-$4-link" ;;
  --switch-generation) ln -sfn "system-$4-link" "$profile" ;;
  esac
  ;;
nix)
  # Also the controller's.
  printf '%s\n' "$*" >>"$LAB/nix.log"
  case " $* " in
  *" path-info "*) for path; do :; done; cat "$path/closure" ;;
  *" build "*) [ ! -e "$LAB/broken" ] || { echo "error: it does not build" >&2; exit 1; }; cat "$LAB/flake" ;;
  *" eval "*) tr -d '\n' <"$LAB/flake" ;;
  *" copy "*)
    for path; do case $path in ssh-ng://*) machine=${path#ssh-ng://} ;; esac; done
    # shellcheck disable=SC2029,SC2086 # Nix splits the options at blanks; the other side gets the text that is made here.
    ssh $NIX_SSHOPTS "$machine" "echo copied $path >>$LAB/done"
    ;;
  esac
  ;;
esac
