# networking.hostName' has conflicting definition values
{
  imports = [ { networking.hostName = "one"; } ];
  networking.hostName = "two";
}
