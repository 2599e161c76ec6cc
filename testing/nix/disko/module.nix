# Disko's options for disks, partitions and what is in them. A content is known by its `type`.
{ lib, pkgs, ... }:
let
  inherit (lib) types;
  inherit (types) listOf nullOr str;

  kinds = {
    btrfs = {
      type = str;
      extraArgs = listOf str;
      subvolumes = types.attrsOf (
        types.tree {
          mountpoint = nullOr str;
          mountOptions = listOf str;
        }
      );
    };
    filesystem = {
      type = str;
      # Disko takes any for which there is a mkfs; these NixOS knows how to mount.
      format = types.enum [
        "btrfs"
        "ext4"
        "vfat"
        "xfs"
      ];
      mountpoint = nullOr str;
      mountOptions = listOf str;
    };
    gpt = {
      type = str;
      partitions = types.attrsOf (
        types.tree {
          size = types.matching "100%|0|[0-9]+[KMGTP]?";
          # sgdisk's short code, or a GUID.
          type = types.matching "[A-Fa-f0-9]{4}|[A-Fa-f0-9]{8}(-[A-Fa-f0-9]{4}){3}-[A-Fa-f0-9]{12}";
          priority = types.int;
          inherit content;
        }
      );
    };
    luks = {
      type = str;
      name = str;
      passwordFile = nullOr str;
      settings = types.tree {
        allowDiscards = types.bool;
        keyFile = str;
        fallbackToPassword = types.bool;
      };
      inherit content;
    };
  };

  content = {
    name = "a content";
    merge =
      path: definitions:
      let
        kind = (lib.head definitions).value.type;
      in
      (types.tree (
        kinds.${kind}
          or (throw "The option `${lib.concatStringsSep "." path}' has a content of an unknown type `${kind}'")
      )).merge
        path
        definitions;
  };
in
{
  options.disko.devices = {
    disk = types.attrsOf (
      types.tree {
        device = str;
        type = types.enum [ "disk" ];
        inherit content;
      }
    );
    nodev = types.attrsOf (
      types.tree {
        fsType = str;
        mountOptions = listOf str;
      }
    );
  };

  config.system.build = {
    diskoScript = pkgs.runCommand "disko" { } "";
  };
}
