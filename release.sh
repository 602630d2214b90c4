#!/bin/sh
# release.sh VERSION: checks the tree, sets the version, commits and tags it.
#
# `make release VERSION=1.1.0` runs the linters and tests first. Nothing is pushed.
set -eu
cd "$(dirname "$0")"
version=${1-}
part=viagralib/__init__.py

fail() {
	echo "release: $*" >&2
	exit 1
}

printf '%s\n' "$version" | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+' ||
	fail "'$version' is no version: make release VERSION=1.1.0"
! git rev-parse -q --verify "refs/tags/v$version" >/dev/null ||
	fail "v$version is tagged already"
[ -z "$(git status --porcelain)" ] ||
	fail "the tree has changes that are not committed: see git status"
old=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' "$part")
newest=$(printf '%s\n' "$old" "$version" | sort -t. -k1,1n -k2,2n -k3,3n | tail -n 1)
[ "$newest" = "$version" ] || fail "$version is older than $old, which the tree has"
entries=$(awk '/^## /{there = $0 == "## [Unreleased]"; next} there && /^- /' CHANGELOG.md)
[ "$entries" ] || fail 'CHANGELOG.md has nothing under "## [Unreleased]": say what is new'

sed "s/^VERSION = .*/VERSION = \"$version\"/" "$part" >"$part.new"
sed "s/^## \[Unreleased\]$/&\\
\\
## [$version] - $(date -u +%Y-%m-%d)/" CHANGELOG.md >CHANGELOG.md.new
cat "$part.new" >"$part"
cat CHANGELOG.md.new >CHANGELOG.md
rm "$part.new" CHANGELOG.md.new
git commit -qam "Release $version"
git tag -a "v$version" -m "viagra.py $version"
echo "tagged v$version. Next: git push --follow-tags"
