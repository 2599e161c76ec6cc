#!/bin/sh
# forget.sh STATE_DIR: remove what the role put there, and the directory unless something else is in it.
set -eu
dir=$1
[ -d "$dir" ] || exit 0
rm -rf "$dir"/making.* "$dir/jobs"
for key in installer_client_key installer_host_key host_key; do rm -f "$dir/$key" "$dir/$key.pub"; done
rm -f "$dir/run" "$dir/closure" "$dir/install.log" "$dir/known_hosts"
if [ -n "$(ls -A "$dir")" ]; then
  echo "kept $dir, which holds other files"
else
  rmdir "$dir"
  echo "removed $dir"
fi
