#!/usr/bin/env bash
# scripts/fuzz.sh [TARGET...]: looks for defects further than `make test` does, which tries the same every time. First
# all property tests with FUZZ_CASES (500) cases from a new seed, then the targets of testing/fuzz (default: all) for
# FUZZ_SECONDS (240) each, from testing/fuzz/corpus and from what earlier runs left in .cache/fuzz. Only the targets if
# FUZZ_CASES is 0.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
export PATH=$PWD/.cache/cargo/bin:$PATH:$HOME/.cargo/bin

if [ "${FUZZ_CASES:-500}" != 0 ]; then
  export PROPTEST_CASES=${FUZZ_CASES:-500}
  PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')}
  export PROPTEST_RNG_SEED
  echo "== property tests, again with PROPTEST_CASES=$PROPTEST_CASES PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"
  cargo test --quiet --workspace
fi

# libFuzzer's flags are unstable ones of rustc.
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root .cache/cargo cargo-fuzz
cargo fuzz build --fuzz-dir testing/fuzz --sanitizer none
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir testing/fuzz)
for target in "${@:-${targets[@]}}"; do
  echo "== $target"
  mkdir -p ".cache/fuzz/$target"
  cargo fuzz run --fuzz-dir testing/fuzz --sanitizer none "$target" ".cache/fuzz/$target" "testing/fuzz/corpus/$target" -- \
    -max_total_time="${FUZZ_SECONDS:-240}" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
done
