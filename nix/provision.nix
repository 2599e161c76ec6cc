# `nix run .#provision -- -i inventory`: the play with everything that it needs on the controller,
# but for Nix itself, which is there already.
{
  ansible,
  git,
  nixos-anywhere,
  openssh,
  role,
  writeShellApplication,
}:
writeShellApplication {
  name = "provision";
  runtimeInputs = [
    ansible
    git
    nixos-anywhere
    openssh
  ];
  text = ''
    export ANSIBLE_ROLES_PATH=${role}/share/ansible/roles''${ANSIBLE_ROLES_PATH:+:$ANSIBLE_ROLES_PATH}
    exec ansible-playbook ${../provision.yml} "$@"
  '';
}
