#!/bin/sh
# packaging/deb.sh - what `make deb` does: viagra-py_VERSION-1_all.deb, in build/.
#
# It needs dpkg-deb and nothing else of Debian's tools. MAINTAINER="Name <address>" says
# whose package it is.
set -eu
umask 022
cd "$(dirname "$0")/.."
export LC_ALL=C PREFIX=/usr SYSCONFDIR=/etc STATEDIR=/var/lib/viagra
export MANDIR=/usr/share/man SYSTEM_PYTHON=/usr/bin/python3 PYTHON="${PYTHON:-python3}"
package=viagra-py
version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' viagralib/__init__.py)-1
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH DESTDIR="$PWD/build/deb"
maintainer=${MAINTAINER:-The viagra.py authors <viagra@$(hostname)>}
doc=$DESTDIR/usr/share/doc/$package

rm -rf "$DESTDIR"
sh install.sh install >/dev/null

# What was shipped last is dpkg's to know. Documents lie where Debian has them.
mkdir -p "$doc/examples" "$DESTDIR/usr/lib/systemd/system" "$DESTDIR/DEBIAN" \
	"$DESTDIR/usr/share/lintian/overrides" "$DESTDIR/usr/share/zsh/vendor-completions"
shipped=$DESTDIR/usr/share/viagra
mv "$shipped"/systemd/* "$DESTDIR/usr/lib/systemd/system/"
mv "$shipped/crontab.example" "$shipped/prometheus" "$shipped/ansible" "$doc/examples/"
mv "$shipped/LICENSE" "$doc/copyright"
mv "$shipped/CHANGELOG.md" "$doc/changelog"
mv "$shipped"/*.md "$shipped/docs" "$doc/"
mv "$DESTDIR"/usr/share/zsh/site-functions/* "$DESTDIR/usr/share/zsh/vendor-completions/"
rm -rf "$shipped" "$DESTDIR/usr/share/zsh/site-functions"
{
	echo "$package ($version) unstable; urgency=medium"
	printf '\n  * See CHANGELOG.md.\n\n'
	echo " -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} >"$doc/changelog.Debian"
# The pages name what lies elsewhere here, or only as dpkg's conffiles.
sed -i -e '/^\.It Pa .usr.share.viagra.start\.d$/,+1d' \
	-e 's#/usr/share/viagra/\(crontab\|prometheus\)#/usr/share/viagra/examples/\1#' \
	-e "s|/usr/share/viagra|/usr/share/doc/$package|" \
	-e 's|^hooks as shipped, examples for|documents, and examples for|' \
	"$DESTDIR"/usr/share/man/man?/*
gzip -9n "$doc"/changelog* "$DESTDIR"/usr/share/man/man*/*
cat >"$DESTDIR/usr/share/lintian/overrides/$package" <<-END
	# Its name is the contract with crontabs and people.
	$package: script-with-language-extension
	# Hooks are off until somebody switches them on.
	$package: script-not-executable [etc/viagra/*]
	# It was never uploaded to Debian.
	$package: initial-upload-closes-no-bugs *
END

cat >"$DESTDIR/DEBIAN/control" <<-END
	Package: $package
	Version: $version
	Architecture: all
	Maintainer: $maintainer
	Installed-Size: $(du -sk --exclude=DEBIAN "$DESTDIR" | cut -f1)
	Depends: python3 (>= 3.11)
	Recommends: procps, cron | cron-daemon, default-mta | mail-transport-agent
	Suggests: curl, monitoring-plugins-basic
	Section: admin
	Priority: optional
	Description: cron-driven one-shot watchdog for daemons
	 It looks once at the process table. For each watched daemon that is down it
	 takes evidence, runs the daemon's start hook, makes sure that it is back, and
	 prints a notice, which cron mails. When all is well it prints nothing. Then it
	 exits; nothing stays resident.
	 .
	 Nothing is watched, and nothing runs, until somebody switches on a hook in
	 /etc/viagra/start.d, and puts viagra.py into a crontab or enables viagra.timer.
END
(cd "$DESTDIR" && find etc -type f | sort | sed 's|^|/|') >"$DESTDIR/DEBIAN/conffiles"
(cd "$DESTDIR" && find usr -type f | sort | xargs md5sum) >"$DESTDIR/DEBIAN/md5sums"

script() {
	{ printf '#!/bin/sh\nset -e\n' && cat; } >"$DESTDIR/DEBIAN/$1"
	chmod 755 "$DESTDIR/DEBIAN/$1"
}
script postinst <<-END
	[ "\$1" != configure ] || ! command -v py3compile >/dev/null ||
		py3compile -p $package /usr/lib/viagra
	[ ! -d /run/systemd/system ] || systemctl --system daemon-reload >/dev/null || :
END
script prerm <<-END
	if [ "\$1" = remove ] && [ -d /run/systemd/system ]; then
		deb-systemd-invoke stop viagra.timer >/dev/null || :
	fi
	! command -v py3clean >/dev/null || py3clean -p $package
END
script postrm <<-END
	if [ "\$1" = purge ]; then
		rm -rf /var/lib/viagra /run/viagra
		rm -f /etc/systemd/system/timers.target.wants/viagra.timer
	fi
	[ ! -d /run/systemd/system ] || systemctl --system daemon-reload >/dev/null || :
END
dpkg-deb --root-owner-group -Zxz --build "$DESTDIR" build >/dev/null
rm -rf "$DESTDIR"
echo "build/${package}_${version}_all.deb"
echo "Next: apt install ./build/${package}_${version}_all.deb; in crontabs, /usr/sbin/viagra.py"
