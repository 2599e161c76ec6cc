# matchConfig.Tpye' does not exist
{ systemd.network.networks."10-lan".matchConfig.Tpye = "ether"; }
