# The part of nixpkgs.lib that we use.
rec {
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isString
    listToAttrs
    mapAttrs
    replaceStrings
    ;

  # Lists and attribute sets
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: values: if condition then values else { };
  unique = foldl' (known: item: if elem item known then known else known ++ [ item ]) [ ];
  genAttrs =
    names: f:
    listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );
  recursiveUpdate =
    left: right:
    left
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (left.${name} or null) then
        recursiveUpdate left.${name} value
      else
        value
    ) right;

  # Strings
  optionalString = condition: text: if condition then text else "";
  concatStringsSep = builtins.concatStringsSep;
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  hasSuffix = suffix: text: removeSuffix suffix text != text;
  removeSuffix =
    suffix: text:
    let
      length = builtins.stringLength text - builtins.stringLength suffix;
    in
    if length >= 0 && builtins.substring length (-1) text == suffix then
      builtins.substring 0 length text
    else
      text;
  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  trivial.release = "26.05";

  # Packages
  getExe =
    package:
    "${package}/bin/${package.meta.mainProgram or (throw "${package.name} has no mainProgram")}";
  licenses =
    genAttrs
      [
        "asl20"
        "mit"
      ]
      (spdxId: {
        inherit spdxId;
      });
  platforms.linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];

  # Every path has to be there; the result is the whole tree.
  fileset = {
    unions =
      paths:
      foldl' (
        known: path: if builtins.pathExists path then known else throw "no such path: ${toString path}"
      ) "files" paths;
    fileFilter =
      predicate: _root:
      builtins.seq (predicate {
        name = "x.nix";
        type = "regular";
        hasExt = extension: extension == "nix";
      }) "files";
    toSource = { root, fileset }: builtins.seq fileset (toString root);
  };

  # The module system's markers
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkForce = mkOverride 50;
  mkImageMediaOverride = mkOverride 60;
  mkDefault = mkOverride 1000;
  mkOption =
    option:
    let
      unknown = attrNames (
        removeAttrs option [
          "default"
          "description"
          "type"
        ]
      );
    in
    if unknown != [ ] then
      throw "mkOption does not take `${head unknown}'"
    else
      option // { _type = "option"; };
}
