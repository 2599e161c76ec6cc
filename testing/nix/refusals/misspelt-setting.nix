# services.openssh.settings.PasswordAuthenticaton' does not exist
{ services.openssh.settings.PasswordAuthenticaton = false; }
