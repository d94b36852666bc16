#!/bin/sh
# Installs what packaging/files names, or takes it away: for make install, the packages, and
# whoever has the archive and no make.
#
#   packaging/install.sh              install; the services that run are started anew
#   packaging/install.sh uninstall    the reverse, but for the configuration and the state
#   packaging/install.sh copy DIR     a copy of the files in DIR, to be installed from there
#
# PREFIX   where to (/usr/local)
# DESTDIR  a folder that stands for /: files are put there and nothing else is done
# BINARY   the program, where it is not bin/sekisho
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
BINDIR=$PREFIX/bin
UNITDIR=$PREFIX/lib/systemd/system
SHARE=$PREFIX/share
DOCDIR=$SHARE/doc/sekisho
ETCDIR=/etc/sekisho
scripts=$here/packaging/scripts
export SEKISHO="$BINDIR/sekisho"

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

# each COMMAND... runs it with the mode, the file and the place of each line.
each() {
	while read -r mode file place; do
		case $mode in '' | '#'*) continue ;; esac
		eval "place=$place"
		optional=
		case $file in
		/)
			"$@" "$mode" / "$place"
			continue
			;;
		-*) optional=yes file=${file#-} ;;
		esac
		for one in "$here"/$file; do # a pattern
			name=${one#"$here/"}
			[ "$name" != bin/sekisho ] || one=${BINARY:-$one}
			if [ ! -e "$one" ]; then
				[ -n "$optional" ] || fail "$one is not there: run make build first"
				continue
			fi
			case $place in
			*/) "$@" "$mode" "$one" "$place$(basename "$name")" "$name" ;;
			*) "$@" "$mode" "$one" "$place" "$name" ;;
			esac
		done
	done <"$here/packaging/files"
}

# put is for each: the folders above a file are everybody's to read, whatever the umask.
put() {
	if [ "$2" = / ]; then
		install -d -m "$1" "$DESTDIR$3"
		return
	fi
	(umask 022 && mkdir -p "$(dirname "$DESTDIR$3")")
	case $2 in
	*.service)
		sed "s|/usr/local/|$PREFIX/|" "$2" >"$DESTDIR$3.new"
		chmod "$1" "$DESTDIR$3.new"
		mv -f "$DESTDIR$3.new" "$DESTDIR$3"
		;;
	*) install -m "$1" "$2" "$DESTDIR$3" ;;
	esac
}

take() { [ "$2" = / ] || rm -f "$DESTDIR$3"; }

copy() {
	[ "$2" != / ] || return 0
	(umask 022 && mkdir -p "$(dirname "$there/$4")")
	install -m "$1" "$2" "$there/$4"
}

case ${1:-install} in
install)
	before=
	[ ! -e "$DESTDIR$BINDIR/sekisho" ] || before=unknown
	each put
	[ -n "$DESTDIR" ] || sh "$scripts/postinst" configure $before
	;;
uninstall)
	[ -n "$DESTDIR" ] || [ ! -e "$BINDIR/sekisho" ] || sh "$scripts/prerm" remove
	each take
	rm -rf "$DESTDIR$DOCDIR" "$DESTDIR$SHARE/sekisho"
	rmdir "$DESTDIR$ETCDIR" 2>/dev/null || true
	[ -n "$DESTDIR" ] || sh "$scripts/postrm" remove
	;;
copy)
	there=${2:?install.sh copy: which folder?}
	each copy
	for name in files install.sh scripts/postinst scripts/prerm scripts/postrm; do
		mode=0644
		[ $name != install.sh ] || mode=0755
		copy $mode "$here/packaging/$name" "" "packaging/$name"
	done
	;;
*) fail "usage: install.sh [install | uninstall | copy DIR]" ;;
esac
