# `nix run .#provision -- -i inventory`: the play with everything that it needs on the controller,
# but for Nix itself, which is there already.
{
  ansible,
  git,
  lib,
  nixos-anywhere,
  openssh,
  role,
  writeShellApplication,
  writeText,
}:
let
  roles = "${role}/share/ansible/roles";

  # The repository's ansible.cfg. Paths that are relative there would be relative to this file in the Nix store.
  config = writeText "ansible.cfg" (
    lib.replaceStrings
      [
        "inventory = inventory\n"
        "roles_path = roles\n"
        "library = library\n"
        "callback_plugins = roles/"
        "inventory_plugins = roles/"
      ]
      [
        ""
        "roles_path = ${roles}\n"
        ""
        "callback_plugins = ${roles}/"
        "inventory_plugins = ${roles}/"
      ]
      (builtins.readFile ../ansible.cfg)
  );
in
writeShellApplication {
  name = "provision";
  runtimeInputs = [
    ansible
    git
    nixos-anywhere
    openssh
  ];
  text = ''
    export ANSIBLE_ROLES_PATH=${roles}''${ANSIBLE_ROLES_PATH:+:$ANSIBLE_ROLES_PATH}
    # Where Ansible looks for a configuration. Only without one it is ours, with live progress.
    if [ -z "''${ANSIBLE_CONFIG:-}" ] && ! [ -e ansible.cfg ] && ! [ -e ~/.ansible.cfg ] && ! [ -e /etc/ansible/ansible.cfg ]; then
      export ANSIBLE_CONFIG=${config}
    fi
    exec ansible-playbook ${../provision.yml} "$@"
  '';
}
