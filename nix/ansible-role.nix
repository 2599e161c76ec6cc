# The role nixos_vm with the modules in it, to be put on ANSIBLE_ROLES_PATH.
{
  runCommand,
  modules,
  version,
}:
runCommand "nixos-proxmox-ansible-role-${version}" { } ''
  mkdir -p $out/share/ansible/roles
  cd $out/share/ansible/roles
  cp -r ${../roles/nixos_vm} nixos_vm
  chmod -R u+w nixos_vm
  # A link to the repository's own library/, which is not part of this.
  rm -rf nixos_vm/library
  cp -r ${modules}/share/ansible/library nixos_vm/library
''
