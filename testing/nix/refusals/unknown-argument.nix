# wants an argument `inputs'
{ inputs, ... }: { environment.systemPackages = inputs; }
