#!/usr/bin/env bash
# Shows that the simulation of hostile hosts would have found what was mended. Each patch in `mutants/` takes one mend out of
# a copy of this tree; seeds run on the copy until one breaks an invariant, and the run is shortened. Fails if a mutant
# breaks none in POSTERN_MUTANT_SEEDS seeds, if it breaks another invariant than its patch says, or if a patch does not apply
# any more. `mutants.sh NAME...` tries only these.
#
# A patch begins with `# breaks: INVARIANT` and a line that says what it takes out.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
seeds=${POSTERN_MUTANT_SEEDS:-300}

work=${CARGO_TARGET_DIR:-$PWD/target}/mutants
copy=$work/tree
# A target of its own: what is built from a mutant must never pass for what is built from this tree.
export CARGO_TARGET_DIR=$work/target

# The tree as it is now, committed or not. Its files are new, so that nothing built from the last mutant passes for this.
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' - {} |
    tar --null --files-from=- --create --file=- | tar --extract --touch --directory "$copy"

names=("$@")
((${#names[@]})) || mapfile -t names < <(basename -s .patch tests/mutants/*.patch)
failed=()
for name in "${names[@]}"; do
    patch=$PWD/tests/mutants/$name.patch
    expected=$(sed -n '1s/^# breaks: //p' "$patch")
    printf '\n=== %s (%ds)\n' "$name" "$SECONDS"
    sed -n '2s/^# //p' "$patch"
    if ! patch --directory "$copy" --strip 1 --forward --fuzz 0 --silent < "$patch"; then
        failed+=("$name: does not apply")
        patch --directory "$copy" --strip 1 --reverse --force --silent < "$patch" > /dev/null 2>&1 || true
        continue
    fi
    if ! (cd "$copy" && cargo build --quiet --release --locked -p postern-tests --no-default-features --bin seeds); then
        failed+=("$name: does not build")
    elif "$CARGO_TARGET_DIR/release/seeds" "$seeds" | tee "$work/$name.out"; then
        failed+=("$name: no invariant broken in $seeds seeds")
    elif ! grep -q "breaks $expected," "$work/$name.out"; then
        failed+=("$name: not $expected")
    fi
    patch --directory "$copy" --strip 1 --reverse --silent < "$patch"
done

printf '\n%d mutants, %d not found (%ds)\n' "${#names[@]}" "${#failed[@]}" "$SECONDS"
((${#failed[@]} == 0)) || printf '  %s\n' "${failed[@]}"
((${#failed[@]} == 0))
