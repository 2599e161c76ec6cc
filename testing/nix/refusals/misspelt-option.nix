# services.qemuGest' does not exist
{ services.qemuGest.enable = true; }
