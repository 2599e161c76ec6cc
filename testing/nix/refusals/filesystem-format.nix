# content.format' wants one of
{
  disko.devices.disk.main = {
    device = "/dev/sda";
    type = "disk";
    content = {
      type = "gpt";
      partitions.root.content = {
        type = "filesystem";
        format = "ext44";
      };
    };
  };
}
