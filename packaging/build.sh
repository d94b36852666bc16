#!/usr/bin/env bash
# Makes the packages of the architectures that are named, in dist; make packages calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

work=bin/packages
rm -rf dist "$work"
mkdir -p dist "$work"

# Manual pages, where there is something that makes them.
rm -rf bin/man
if grep -q '^man:' Makefile; then "$MAKE" --no-print-directory man; fi

"$GO" -C packaging/pack build -trimpath -buildvcs=false -o "$PWD/bin/pack" .
bin/pack licences bin/THIRD-PARTY.txt
version=$(bin/pack version -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH")

made=()
for arch in "$@"; do
	echo "packages: $version for $arch"
	here=$work/$arch
	GOOS=linux GOARCH=$arch "$MAKE" --no-print-directory build BINARY="$here/sekisho" VERSION="$VERSION"
	BINARY=$here/sekisho DESTDIR=$here/tree PREFIX=/usr packaging/install.sh install
	BINARY=$here/sekisho packaging/install.sh copy "$here/copy"
	# It looks for the licence of the program itself where that is not, and says so.
	"$GO" run "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$CYCLONEDX" bin -json -noserial -notimestamp -std -licenses \
		-version "$version" -output "$here/sbom.json" "$here/sekisho" 2>"$here/sbom.log" || { cat "$here/sbom.log" >&2; exit 1; }
	made+=("$arch=$here")
done
bin/pack make -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" "${made[@]}"
rm -rf "$work"
