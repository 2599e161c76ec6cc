# Boots the installer with a drive like cloudinit_drive's, and logs in by the key that the drive
# brings, to the host key that the drive brings, at the address that the drive gives.
{
  pkgs,
  iso,
  fileName,
}:
let
  mac = "bc:24:11:00:00:01";

  # Keys of a test, known to anybody who can read the Nix store.
  drive =
    pkgs.runCommand "cidata"
      {
        nativeBuildInputs = [
          pkgs.openssh
          pkgs.xorriso
        ];
      }
      ''
        mkdir $out seed
        ssh-keygen -q -t ed25519 -N "" -C client -f $out/client
        ssh-keygen -q -t ed25519 -N "" -C host -f host
        echo "[127.0.0.1]:2222 $(cat host.pub)" > $out/known_hosts

        cat > seed/meta-data <<END
        instance-id: boot-test
        END
        cat > seed/user-data <<END
        #cloud-config
        hostname: boot-test
        disable_root: false
        ssh_deletekeys: false
        ssh_genkeytypes: [ed25519]
        users:
          - name: root
            lock_passwd: false
            ssh_authorized_keys: ["$(cat $out/client.pub)"]
        write_files:
          - path: /etc/ssh/ssh_host_ed25519_key
            owner: root:root
            permissions: "0600"
            encoding: b64
            content: $(base64 -w0 host)
          - path: /etc/ssh/ssh_host_ed25519_key.pub
            owner: root:root
            permissions: "0644"
            encoding: b64
            content: $(base64 -w0 host.pub)
        END
        cat > seed/network-config <<END
        version: 2
        ethernets:
          net0:
            match: {macaddress: "${mac}"}
            addresses: [10.0.2.15/24]
            routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]
        END
        xorriso -as mkisofs -quiet -V cidata -J -r -o $out/cidata.iso seed
      '';

  # As Proxmox VE attaches them: the installer and the seed as CD-ROMs, the network by virtio.
  command = toString [
    "${pkgs.qemu_test}/bin/qemu-system-x86_64 -accel kvm -cpu max -m 2048 -smp 2"
    "-cdrom ${iso}/iso/${fileName}"
    "-drive file=${drive}/cidata.iso,media=cdrom,readonly=on,index=0"
    "-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-10.0.2.15:22"
    "-device virtio-net-pci,netdev=net0,mac=${mac}"
  ];
in
pkgs.testers.runNixOSTest {
  name = "installer-boot";
  nodes = { };
  testScript = ''
    import os
    import shutil
    import subprocess
    import time

    key = os.path.join(os.environ.get("TMPDIR", "/tmp"), "client")
    shutil.copy("${drive}/client", key)
    os.chmod(key, 0o600)

    def ssh(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [
                "${pkgs.openssh}/bin/ssh", "-F", "none", "-i", key, "-p", "2222",
                "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
                "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=${drive}/known_hosts",
                "root@127.0.0.1", command,
            ],
            capture_output=True, text=True, timeout=60,
        )

    machine = create_machine("${command}")
    machine.start()

    deadline = time.monotonic() + 600
    while (answer := ssh("cat /etc/os-release")).returncode != 0:
        assert "verification failed" not in answer.stderr, "another host key:\n" + answer.stderr
        assert time.monotonic() < deadline, "no login within ten minutes:\n" + answer.stderr
        time.sleep(2)

    assert "\nID=nixos\n" in "\n" + answer.stdout, answer.stdout
    assert "VARIANT_ID=installer" in answer.stdout or 'VARIANT_ID="installer"' in answer.stdout, answer.stdout
    for command in [
        "test $(hostname) = boot-test",
        "ip -o link show eth0",
        "networkctl status eth0 | grep 10-cloud-init",
        "type nix cpio tar setsid",
        "systemctl is-active qemu-guest-agent || systemctl cat qemu-guest-agent",
        "sudo -u nixos sudo -n true",
    ]:
        answer = ssh(command)
        assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"

    machine.crash()
  '';
}
