# Types of options. Each checks a value and merges the definitions that won; in a `tree` a name that
# is not listed is refused.
{ lib }:
let
  fail = path: text: throw "The option `${lib.concatStringsSep "." path}' ${text}";

  # mkIf and mkMerge within an option's value: from one definition to those that hold.
  settle =
    definition:
    let
      inherit (definition) value;
      kind = value._type or null;
      again = value: settle (definition // { inherit value; });
    in
    if kind == "if" then
      lib.optionals value.condition (again value.content)
    else if kind == "merge" then
      lib.concatMap again value.contents
    else
      [ definition ];

  # The same for sets of options. There a condition goes down to the options, so that it may depend
  # on other ones.
  settleSet =
    definition:
    let
      inherit (definition) value;
      kind = value._type or null;
      again = value: settleSet (definition // { inherit value; });
      contentKind = value.content._type or null;
    in
    if kind == "merge" then
      lib.concatMap again value.contents
    else if kind == "if" && contentKind == "merge" then
      again {
        _type = "merge";
        contents = map (lib.mkIf value.condition) value.content.contents;
      }
    else if kind == "if" && contentKind == null then
      [ (definition // { value = lib.mapAttrs (_: lib.mkIf value.condition) value.content; }) ]
    # So does a priority.
    else if kind == "override" then
      [
        (
          definition
          // {
            value = lib.mapAttrs (_: content: {
              _type = "override";
              inherit (value) priority;
              inherit content;
            }) value.content;
          }
        )
      ]
    else
      settle definition;

  isSet =
    value: lib.isAttrs value && !(value ? _type) && !(value ? type && value.type == "derivation");

  # mkForce, mkDefault: those with the highest priority, which is the lowest number.
  strongest =
    definitions:
    let
      rated = map (
        definition:
        if (definition.value._type or null) == "override" then
          {
            inherit (definition.value) priority;
            definition = definition // {
              value = definition.value.content;
            };
          }
        else
          {
            priority = 100;
            inherit definition;
          }
      ) definitions;
      best = lib.foldl' (low: rating: if rating.priority < low then rating.priority else low) 9999 rated;
    in
    map (rating: rating.definition) (lib.filter (rating: rating.priority == best) rated);

  winners = definitions: strongest (lib.concatMap settle definitions);

  sources =
    definitions: lib.concatMapStringsSep ", " (definition: toString definition.file) definitions;

  # One value: all definitions that won have to agree.
  single = name: check: {
    inherit name;
    merge =
      path: definitions:
      let
        inherit (lib.head definitions) value;
      in
      if !(lib.foldl' (good: definition: good && check definition.value) true definitions) then
        fail path "wants ${name} (in ${sources definitions})"
      else if !(lib.foldl' (same: definition: same && definition.value == value) true definitions) then
        fail path "has conflicting definition values (in ${sources definitions})"
      else
        value;
  };

  merged =
    path: type: definitions:
    type.merge path (winners definitions);
  mergedSet =
    path: type: definitions:
    type.merge path (strongest (lib.concatMap settleSet definitions));
  isDefined = definitions: lib.concatMap settle definitions != [ ];

  namesIn =
    definitions: lib.unique (lib.concatMap (definition: lib.attrNames definition.value) definitions);
  at =
    name: definitions:
    lib.concatMap (
      definition:
      lib.optional (definition.value ? ${name}) (definition // { value = definition.value.${name}; })
    ) definitions;

  allSets =
    path: definitions:
    if lib.foldl' (good: definition: good && isSet definition.value) true definitions then
      definitions
    else
      fail path "wants a set (in ${sources definitions})";

  isDerivation = value: lib.isAttrs value && (value.type or null) == "derivation";
in
rec {
  inherit mergedSet;

  anything = {
    name = "anything";
    merge =
      path: definitions:
      if lib.foldl' (sets: d: sets && isSet d.value) true definitions then
        lib.genAttrs (namesIn definitions) (name: merged (path ++ [ name ]) anything (at name definitions))
      else
        (single "anything" (_: true)).merge path definitions;
  };
  bool = single "a boolean" lib.isBool;
  int = single "an integer" lib.isInt;
  str = single "a string" lib.isString;
  matching =
    regex:
    single "a string that matches ${regex}" (
      value: lib.isString value && builtins.match regex value != null
    );
  strMatching = matching;
  ints.between =
    low: high:
    single "an integer between ${toString low} and ${toString high}" (
      value: lib.isInt value && low <= value && value <= high
    );
  package = single "a package" isDerivation;
  path = single "a path" (value: lib.isString value || builtins.isPath value || isDerivation value);
  enum = values: single "one of ${builtins.toJSON values}" (value: lib.elem value values);
  atoms = single "a boolean, a number, a string or a list of these" (
    value: lib.isBool value || lib.isInt value || lib.isString value || lib.isList value
  );

  lines = {
    name = "text";
    merge =
      path: definitions:
      lib.concatMapStringsSep "\n" (definition: str.merge path [ definition ]) definitions;
  };

  nullOr = type: {
    name = "null or ${type.name}";
    merge =
      path: definitions:
      if (lib.head definitions).value == null then null else type.merge path definitions;
  };

  listOf = type: {
    name = "a list of ${type.name}";
    merge =
      path: definitions:
      lib.concatMap (
        definition:
        if lib.isList definition.value then
          map (value: type.merge path [ (definition // { inherit value; }) ]) definition.value
        else
          fail path "wants a list (in ${sources [ definition ]})"
      ) definitions;
  };

  attrsOf = type: {
    name = "a set of ${type.name}";
    merge =
      path: definitions:
      lib.genAttrs (lib.filter (name: isDefined (at name definitions)) (
        namesIn (allSets path definitions)
      )) (name: merged (path ++ [ name ]) type (at name definitions));
  };

  # A closed set of options; `tree` is made of sets and, as leaves, of types or mkOption's results.
  tree = options: open options null;

  # The same, where other names have values of the type `rest`.
  open = options: rest: {
    name = "a set of options";
    merge =
      path: definitions:
      let
        names = namesIn (allSets path definitions);
        unknown = lib.filter (name: !(options ? ${name})) names;
        isSetOfOptions = option: !(option ? merge) && (option._type or null) != "option";
        value =
          name:
          let
            option = if options ? ${name} then options.${name} else rest;
            here = path ++ [ name ];
            found = at name definitions;
          in
          if isSetOfOptions option then
            mergedSet here (tree option) (
              found
              ++ [
                {
                  file = "the defaults";
                  value = { };
                }
              ]
            )
          else if isDefined found then
            merged here (option.type or option) found
          else
            option.default or (fail here "is used but not defined");
      in
      if unknown != [ ] && rest == null then
        fail (
          path ++ [ (lib.head unknown) ]
        ) "does not exist (in ${sources (at (lib.head unknown) definitions)})"
      else
        lib.genAttrs (lib.attrNames options ++ unknown) value
        # Which of them were set: what has to be looked at to have checked everything.
        // {
          __set = lib.filter (
            name: isSetOfOptions (options.${name} or rest) || isDefined (at name definitions)
          ) names;
        };
  };
}
