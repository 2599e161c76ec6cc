# What nixos-anywhere needs of a NixOS configuration, without nixpkgs.
{
  outputs =
    _:
    let
      system = "x86_64-linux";
      script =
        name: text:
        derivation {
          inherit name system text;
          builder = "/bin/sh";
          args = [
            "-c"
            "PATH=/usr/bin:/bin; sleep @build@; printf %s \"$text\" >$out; chmod +x $out"
          ];
        };
      # As the partitioning tools are: a part of what is copied to the installer's own store.
      tools = derivation {
        name = "tools";
        inherit system;
        builder = "/bin/sh";
        args = [
          "-c"
          "PATH=/usr/bin:/bin; dd if=/dev/urandom of=$out bs=1024 count=@tools@ 2>/dev/null"
        ];
      };
      disko = script "disko" ''
        #!/bin/sh
        [ -e ${tools} ] || exit 1
        mountpoint -q /mnt && umount -l /mnt
        mount -t tmpfs -o size=256m tmpfs /mnt
        echo disko >>"$LAB/done"
      '';
      toplevel = derivation {
        name = "nixos-system-real";
        inherit system;
        builder = "/bin/sh";
        args = [
          "-c"
          ''
            PATH=/usr/bin:/bin
            sleep @build@
            mkdir $out
            printf ${system} >$out/system
            dd if=/dev/urandom of=$out/payload bs=1024 count=@payload@ 2>/dev/null
          ''
        ];
      };
    in
    {
      nixosConfigurations.real.config = {
        pkgs.system = system;
        nix.settings.substituters = [ "@substituter@" ];
        nix.settings.trusted-public-keys = [ ];
        system.build = {
          inherit toplevel;
          diskoScript = disko;
          mountScript = disko;
          formatScript = disko;
        };
      };
    };
}
