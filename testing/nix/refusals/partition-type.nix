# partitions.ESP.type' wants a string that matches
{
  disko.devices.disk.main = {
    device = "/dev/sda";
    type = "disk";
    content = {
      type = "gpt";
      partitions.ESP.type = "ef0";
    };
  };
}
