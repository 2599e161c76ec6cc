# fileSystems."/persist".neededForBoot has to be true
{ environment.persistence."/persist".hideMounts = true; }
