# partitions.root.siez' does not exist
{
  disko.devices.disk.main = {
    device = "/dev/sda";
    type = "disk";
    content = {
      type = "gpt";
      partitions.root.siez = "100%";
    };
  };
}
