# shellcheck shell=sh
# Have NixOS take another system, and put the old one back unless somebody confirms the new one. systemd runs this, apart from any login.
#
#   sh activate.sh DIRECTORY ACTION SYSTEM GENERATION ACTIVATION_SECONDS CONFIRM_SECONDS
#
# GENERATION is empty for a system without one. DIRECTORY/state has one line that says how far it has come, and
# DIRECTORY/output what the programs said. It is confirmed by a directory DIRECTORY/confirmed. Only what was confirmed is ever booted.
set -u
directory=$1 action=$2 system=$3 generation=$4 activation_seconds=$5 confirm_seconds=$6
profile=/nix/var/nix/profiles/system
old=$(readlink -f /run/current-system)
output=$directory/output

state() {
  printf '%s\n' "$*" >"$directory/state.new"
  mv -f "$directory/state.new" "$directory/state"
}

failed_units() {
  systemctl list-units --failed --no-legend --plain --no-pager 2>/dev/null | cut -d ' ' -f 1 | sort
}

# Bounded, since a unit that never starts would hold it for ever.
activate() {
  timeout --kill-after=30 "$activation_seconds" "$1/bin/switch-to-configuration" test >>"$output" 2>&1 </dev/null
}

# What is booted from now on: the system $1, by its generation $2 if it has one.
boot_by_default() {
  if [ -n "$2" ]; then
    nix-env --profile "$profile" --switch-generation "$2"
  else
    nix-env --profile "$profile" --set "$1"
  fi >>"$output" 2>&1 </dev/null &&
    "$1/bin/switch-to-configuration" boot >>"$output" 2>&1 </dev/null
}

commit() {
  state committing
  before=$(readlink -f "$profile")
  number=$(readlink "$profile")
  number=${number#system-}
  number=${number%-link}
  boot_by_default "$system" "$generation" && return
  # A partly written boot loader may not boot.
  [ -z "$before" ] || boot_by_default "$before" "$number" || state committing "the boot loader is not as it was"
  return 1
}

undo() {
  state undoing "$*"
  activate "$old"
  status=$?
  if [ "$(readlink -f /run/current-system)" = "$old" ]; then
    state undone "$*"
  else
    state stuck "exit status $status; $*"
  fi
  exit 1
}

: >"$output"
if [ "$action" = boot ]; then
  if commit; then state committed; else state uncommitted; fi
  exit
fi

state activating
failed_units >"$directory/failed"
activate "$system"
status=$?
news=$(failed_units | comm -13 "$directory/failed" - | tr '\n' ' ')
# 4: units failed, those that had failed before among them.
case $status in
  0 | 4) [ "$status" = 0 ] || [ -z "$news" ] || undo "units failed: $news" ;;
  124 | 137) undo "the activation did not end within $activation_seconds s" ;;
  *) undo "the activation ended with exit status $status" ;;
esac

state activated
waited=0
until [ -d "$directory/confirmed" ]; do
  [ "$waited" -lt "$confirm_seconds" ] || undo "the controller did not log in again within $confirm_seconds s"
  sleep 1
  waited=$((waited + 1))
done
[ "$action" = test ] || commit || undo "it could not be made the system that is booted"
state committed
