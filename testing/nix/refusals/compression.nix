# isoImage.squashfsCompression' wants a string that matches
{ isoImage.squashfsCompression = "zsdt"; }
