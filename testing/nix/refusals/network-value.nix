# networkConfig.DHCP' wants one of
{ systemd.network.networks."10-lan".networkConfig.DHCP = "yess"; }
