# services.openssh.enable' wants a boolean
{ services.openssh.enable = "yes"; }
