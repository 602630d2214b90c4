"""The real daemons of Debian's packages: how a test starts, occupies and kills each.

All of it happens in a private machine (ready_machine), with the settings that the
package ships, save where `prepare` says otherwise and why.
"""

from __future__ import annotations

from dataclasses import dataclass

# Holds a connection open, so that the daemon has a child for it.
HOLD = "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; exec sleep 1000'"
# Somebody answers at that port, or at the first such socket.
SERVES = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"
SERVES_AT = "python3 -c 'import glob, socket; \
socket.socket(socket.AF_UNIX).connect(glob.glob(\"{at}\")[0])'"


@dataclass(frozen=True)
class Ready:
    """One daemon. All but names are shell commands."""

    name: str  # its hook
    package: str
    program: str  # what the package brings
    service: str  # its init.d script
    main: str  # prints the pid of the main process
    works: str  # succeeds when it does its work
    prepare: str = ":"
    occupy: str = ":"  # what gives it children, and goes on
    occupied: str = ":"  # succeeds when they are there
    also: str = ":"  # prints the pids of others that are killed with the main process
    vanishes: str = "false"  # fails when what ends with the main process has ended
    afterwards: str = ":"  # succeeds when what was to be left alone lives, and no more
    processes: int = 1  # that fit its facts


def pidfile(path: str) -> str:
    return f"head -n 1 {path}"


# What the package leaves to systemd alone, as the init.d script an administrator
# without systemd would write.
INIT_SCRIPT = """cat >/etc/init.d/{name} <<'END' && chmod +x /etc/init.d/{name}
#!/bin/sh
case $1 in
start) exec start-stop-daemon --start --oknodo --pidfile {pidfile} {start} ;;
stop) exec start-stop-daemon --stop --oknodo --retry 5 --pidfile {pidfile} ;;
esac
END
"""

KEY = "/run/ready-key"
SSH = (
    f"exec ssh -F none -i {KEY} -o StrictHostKeyChecking=no "
    "-o UserKnownHostsFile=/dev/null root@127.0.0.1 exec sleep 1000"
)
QUERY = (
    "exec runuser -u postgres -- psql -c "
    "'select count(*) from generate_series(1, 1000000000000) a'"
)

DAEMONS = [
    Ready(
        "apache",
        "apache2",
        "/usr/sbin/apache2",
        "apache2",
        main=pidfile("/run/apache2/apache2.pid"),
        works=SERVES.format(port=80),
        occupied="pgrep -u www-data -x apache2",
    ),
    Ready(
        "chronyd",
        "chrony",
        "/usr/sbin/chronyd",
        "chrony",
        main=pidfile("/run/chrony/chronyd.pid"),
        works="chronyc activity",
        # The clock is the one thing that a private machine shares with the real one.
        prepare="echo 'DAEMON_OPTS=\"-F 1 -x\"' >/etc/default/chrony",
        occupied="pgrep -P $(cat /run/chrony/chronyd.pid)",
        vanishes="pgrep -x chronyd",
        processes=2,
    ),
    Ready(
        "cron",
        "cron",
        "/usr/sbin/cron",
        "cron",
        main=pidfile("/run/crond.pid"),
        works="test -e /run/crond.pid",
        # Such a job runs at the first start after boot, without a minute's wait.
        prepare="rm -f /run/crond.reboot\n"
        "echo '@reboot root exec sleep 1000' >/etc/cron.d/ready",
        occupied="pgrep -fx /usr/sbin/CRON && pgrep -fx 'sleep 1000'",
        afterwards="pgrep -fx /usr/sbin/CRON && pgrep -fx 'sleep 1000'",
    ),
    Ready(
        "dovecot",
        "dovecot-imapd",
        "/usr/lib/dovecot/imap-login",
        "dovecot",
        main=pidfile("/run/dovecot/master.pid"),
        works=SERVES.format(port=143),
        # Its certificate is made when it is installed, but only by some packages.
        prepare="sed -i 's/^ssl/#&/' /etc/dovecot/conf.d/10-ssl.conf\n"
        "echo 'ssl = no' >/etc/dovecot/local.conf",
        occupy=HOLD.format(port=143),
        occupied="pgrep -x anvil && pgrep -x imap-login",
    ),
    Ready(
        "fail2ban",
        "fail2ban",
        "/usr/bin/fail2ban-server",
        "fail2ban",
        main=pidfile("/run/fail2ban/fail2ban.pid"),
        works="fail2ban-client ping",
        # It does not start without a log to watch, and there may be no syslogd.
        prepare="touch /var/log/auth.log\n"
        "printf '[sshd]\\nbackend = polling\\nlogpath = /var/log/auth.log\\n' "
        ">/etc/fail2ban/jail.d/ready.conf",
    ),
    Ready(
        "inetd",
        "openbsd-inetd",
        "/usr/sbin/inetd",
        "openbsd-inetd",
        main=pidfile("/run/inetd.pid"),
        works=SERVES.format(port=7),
        prepare="echo 'echo 7/tcp' >>/etc/services\n"
        "echo '127.0.0.1:echo stream tcp nowait root internal' >/etc/inetd.conf",
        occupy=HOLD.format(port=7),
        occupied="pgrep -fx 'echo .127.0.0.1.'",
        afterwards="pgrep -fx 'echo .127.0.0.1.'",
    ),
    Ready(
        "mariadb",
        "mariadb-server",
        "/usr/sbin/mariadbd",
        "mariadb",
        main=pidfile("/run/mysqld/mysqld.pid"),
        works="mariadb-admin ping",
        also="pgrep -fx '/bin/sh /usr/bin/mysqld_safe'",
    ),
    Ready(
        "named",
        "bind9",
        "/usr/sbin/named",
        "named",
        main=pidfile("/run/named/named.pid"),
        works=SERVES.format(port=53),
    ),
    Ready(
        "nfs",
        "nfs-common",
        "/sbin/rpc.statd",
        "nfs-common",
        main=pidfile("/run/rpc.statd.pid"),
        works="mountpoint /mnt/home && mountpoint /mnt/web",
        afterwards="! grep '^old ' /proc/mounts",
        # Its other helper would have the real machine's kernel load modules.
        prepare="printf 'NEED_IDMAPD=no\\nNEED_GSSD=no\\n' >/etc/default/nfs-common\n"
        "/etc/init.d/rpcbind start; mkdir -p /mnt/home /mnt/web\n"
        "for place in home web; do mount -t tmpfs old /mnt/$place; done",
    ),
    Ready(
        "nginx",
        "nginx-light",
        "/usr/sbin/nginx",
        "nginx",
        main=pidfile("/run/nginx.pid"),
        works=SERVES.format(port=80),
        occupied="pgrep -fx 'nginx: worker process'",
    ),
    Ready(
        "php-fpm",
        "php-fpm",
        "/etc/php",
        "php*-fpm",
        main=pidfile("/run/php/php*-fpm.pid"),
        works=SERVES_AT.format(at="/run/php/php*-fpm.sock"),
        occupied="pgrep -f '^php-fpm: pool'",
    ),
    Ready(
        "postfix",
        "postfix",
        "/usr/lib/postfix/sbin/master",
        "postfix",
        main=pidfile("/var/spool/postfix/pid/master.pid"),
        works=SERVES.format(port=25),
        occupied="pgrep -x qmgr && pgrep -x pickup",
    ),
    Ready(
        "postgresql",
        "postgresql",
        "/usr/lib/postgresql",
        "postgresql",
        main=pidfile("/var/lib/postgresql/*/main/postmaster.pid"),
        works="runuser -u postgres -- psql -c 'select 1'",
        occupy=QUERY,
        occupied="pgrep -f '^postgres: .* SELECT'",
    ),
    Ready(
        "redis",
        "redis-server",
        "/usr/bin/redis-server",
        "redis-server",
        main=pidfile("/run/redis/redis-server.pid"),
        works="redis-cli get key",
        # A save that takes for ever.
        occupy="redis-cli config set rdb-key-save-delay 1000000000; "
        "redis-cli set key value; redis-cli bgsave",
        occupied="pgrep -f '^redis-rdb-bgsave'",
        afterwards="! pgrep -f '^redis-rdb-bgsave'",
    ),
    Ready(
        "rsyslogd",
        "rsyslog",
        "/usr/sbin/rsyslogd",
        "rsyslog",
        main=pidfile("/run/rsyslogd.pid"),
        works="logger -u /dev/log ready && grep -q ready /var/log/syslog",
        # Without the kernel's log: it has one reader, the real machine's.
        prepare="sed -i '/imklog/d' /etc/rsyslog.conf\n"
        + INIT_SCRIPT.format(
            name="rsyslog",
            pidfile="/run/rsyslogd.pid",
            start="--exec /usr/sbin/rsyslogd",
        ),
    ),
    Ready(
        "sshd",
        "openssh-server",
        "/usr/sbin/sshd",
        "ssh",
        main=pidfile("/run/sshd.pid"),
        works=SERVES.format(port=22),
        prepare=f"ssh-keygen -q -t ed25519 -N '' -f {KEY}\n"
        f"cp {KEY}.pub /etc/ssh/ready_keys\n"
        "echo AuthorizedKeysFile /etc/ssh/ready_keys >/etc/ssh/sshd_config.d/a.conf",
        occupy=SSH,
        occupied="pgrep -fx 'sleep 1000'",
        afterwards="pgrep -f '^sshd: root@notty' && pgrep -fx 'sleep 1000'",
    ),
    Ready(
        "tomcat",
        "tomcat10",
        "/usr/libexec/tomcat10/tomcat-start.sh",
        "tomcat10",
        main=pidfile("/run/tomcat.pid"),
        works=SERVES.format(port=8080),
        prepare=INIT_SCRIPT.format(
            name="tomcat10",
            pidfile="/run/tomcat.pid",
            start="--background --make-pidfile --chuid tomcat:tomcat --startas "
            "/usr/bin/env -- CATALINA_HOME=/usr/share/tomcat10 "
            "CATALINA_BASE=/var/lib/tomcat10 CATALINA_TMPDIR=/var/tmp "
            # It lives for seconds: not worth what a compiler does for days of life.
            "'CATALINA_OPTS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
            "-XX:-UsePerfData' "  # which would be a file in our /tmp
            "/bin/sh /usr/libexec/tomcat10/tomcat-start.sh",
        ),
    ),
]
