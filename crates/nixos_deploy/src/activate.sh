# shellcheck shell=sh
# Activate a system, and activate the old one again unless the controller confirms the new one. systemd runs this, apart from any login.
#
#   sh activate.sh DIRECTORY ACTION SYSTEM GENERATION ACTIVATION_SECONDS CONFIRM_SECONDS
#
# GENERATION is empty for a system without one. DIRECTORY/state has one line that says how far it has come, and DIRECTORY/output what the
# programs said. It is confirmed by a directory DIRECTORY/confirmed. With the action switch, only what was confirmed is booted.
set -u
directory=$1 action=$2 system=$3 generation=$4 activation_seconds=$5 confirm_seconds=$6
# Opened once: what puts the old system back must not depend on a file that somebody removes.
exec >>"$directory/output" 2>&1 </dev/null
profile=/nix/var/nix/profiles/system
# On a disk: it outlives a loss of power between the profile and the boot loader.
committing=/nix/var/nix/nixos-deploy-committing
old=$(readlink -f /run/current-system)
# The programs of the system that works.
PATH=$old/sw/bin:$PATH
loader=

state() {
  printf '%s\n' "$*" >"$directory/state.new" && mv -f "$directory/state.new" "$directory/state"
}

# With those that systemd starts again and again.
failed_units() {
  systemctl list-units --state=failed,auto-restart --no-legend --plain --no-pager 2>/dev/null | cut -d ' ' -f 1 | sort
}

# Bounded, since a unit that never starts would hold it for ever.
activate() {
  timeout --kill-after=30 "$activation_seconds" "$1/bin/switch-to-configuration" test
}

# Whether an activation that ended with the status $1 worked. 4 means failed units, those that had failed before among them.
worked() {
  units=$(failed_units)
  news=$(printf '%s\n' "$units" | comm -13 "$directory/failed" - | tr '\n' ' ')
  news=${news# }
  case $1 in
  0) return 0 ;;
  4) [ -n "$units" ] && [ -z "$news" ] && ! grep -q '^Failed to ' "$directory/output" ;;
  *) return 1 ;;
  esac
}

# What is booted from now on: the system $1, by its generation $2 if it has one.
boot_by_default() {
  if [ -n "$2" ]; then
    nix-env --profile "$profile" --switch-generation "$2"
  else
    nix-env --profile "$profile" --set "$1"
  fi && "$1/bin/switch-to-configuration" boot
}

number() {
  link=$(readlink "$profile")
  link=${link#system-}
  echo "${link%-link}"
}

commit() {
  state committing
  before='' before_number=''
  if [ -e "$profile" ]; then before=$(readlink -f "$profile") before_number=$(number); fi
  # nix-env takes the newest generation again if that is the system.
  existing=" $(echo "$profile"-*-link) "
  : >"$committing" && sync
  if boot_by_default "$system" "$generation"; then
    rm -f "$committing"
    return
  fi
  [ -n "$before" ] || return 1
  # A partly written boot loader may not boot, and one that is full stays so as long as the generation
  # that was made here is there.
  made=$(number)
  nix-env --profile "$profile" --switch-generation "$before_number"
  case $existing in
  *" $profile-$made-link "*) ;;
  *) nix-env --profile "$profile" --delete-generations "$made" ;;
  esac
  if boot_by_default "$before" "$before_number"; then
    rm -f "$committing"
  else
    loader='the boot loader could not be written again either; '
  fi
  return 1
}

undo() {
  state undoing "$*"
  activate "$old"
  status=$?
  if [ -z "$loader" ] && [ "$(readlink -f /run/current-system)" = "$old" ] && worked "$status"; then
    state undone "$*"
  else
    state stuck "${loader}exit status $status; $*"
  fi
  exit 1
}

if [ "$action" = boot ]; then
  if commit; then state committed; else state uncommitted "$loader"; fi
  exit
fi

state activating
failed_units >"$directory/failed"
activate "$system"
status=$?
if [ "$status" = 11 ] || grep -q 'Could not acquire lock' "$directory/output"; then
  # Another program switches the system: what that does is not to be undone.
  state locked
  exit 1
fi
if ! worked "$status"; then
  case $status in
  4) undo "units failed: ${news:-see the output}" ;;
  124 | 137) undo "the activation did not end within $activation_seconds s" ;;
  *) undo "the activation ended with exit status $status" ;;
  esac
fi

state activated
waited=0
until [ -d "$directory/confirmed" ]; do
  [ "$waited" -lt "$confirm_seconds" ] || undo "the controller did not log in again within $confirm_seconds s"
  sleep 1
  waited=$((waited + 1))
done
[ "$action" = test ] || commit || undo "it could not be made the default boot entry"
state committed
