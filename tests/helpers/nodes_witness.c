/*
 * What a schedule of faults needs outside of Python: the command under the lease, the
 * observer of its processes, the network between machines, and a machine's process 1.
 *
 * life BOOK LEASE NODE KIND   the command: it notes in BOOK from when to when it lived
 * observe BOOK                tells what /proc shows of all commands with that BOOK
 * network LINKS COUNT SEED    carries packets between COUNT machines and the outside
 * machine NAME BOOT ID        process 1 of a machine; files with the id of this boot
 *                             and its machine-id
 * enter PID LOG COMMAND ...   starts a command in a machine, and prints its pid
 *
 * Times are of CLOCK_MONOTONIC, which all machines share, in nanoseconds.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void nap(int64_t ns) {
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	nanosleep(&t, NULL);
}

static void *map(const char *path, size_t size) {
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		err(1, "%s", path);
	return at;
}

/* ---- the command ---- */

enum { LIVES = 8192, BEAT = 4000000 };
struct life { /* as nodes_judge.py reads it */
	int64_t start, last, token;
	int32_t lease, node, first, met; /* first: of the same command; met: another's + 1 */
	int64_t unused[3];
};
static struct { int64_t count, unused[7]; struct life life[LIVES]; } *book;
static volatile sig_atomic_t asked;

static void on_term(int number) { (void)number; asked = 1; }

static struct life *begin(int lease, int node, int locks, int first) {
	int64_t number = __atomic_fetch_add(&book->count, 1, __ATOMIC_SEQ_CST);
	if (number >= LIVES)
		errx(1, "the book is full");
	struct life *own = &book->life[number];
	const char *token = getenv("VIAGRA_TOKEN");
	own->start = own->last = now();
	own->token = token ? atoll(token) : -1;
	own->lease = lease, own->node = node, own->first = first < 0 ? number : first;
	/* The kernel has the last word on who lives: each locks a byte of its own, then
	 * looks for others'. Of two, one at least sees the other. */
	struct flock lock = {.l_type = F_RDLCK, .l_start = own->first, .l_len = 1};
	if (fcntl(locks, F_SETLK, &lock))
		err(1, "lock");
	for (int side = 0; side < 2; side++) {
		struct flock other = {.l_type = F_WRLCK, .l_start = side ? own->first + 1 : 0};
		other.l_len = side ? 0 : own->first;
		if ((side || own->first) && !fcntl(locks, F_GETLK, &other) && other.l_type != F_UNLCK)
			own->met = other.l_start + 1;
	}
	return own;
}

static int life(char **argv) {
	book = map(argv[2], sizeof *book);
	int lease = atoi(argv[3]), node = atoi(argv[4]);
	const char *kind = argv[5];
	char path[4096];
	snprintf(path, sizeof path, "%s.%d", argv[2], lease);
	int locks = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	signal(SIGTERM, strcmp(kind, "deaf") ? on_term : SIG_IGN);
	struct life *own = begin(lease, node, locks, -1);
	if (!strcmp(kind, "forks"))
		for (int child = 0; child < 2; child++)
			if (fork() == 0) {
				signal(SIGTERM, SIG_IGN);
				setsid();
				if (child && fork())
					_exit(0);
				own = begin(lease, node, locks, own->first);
				break;
			}
	for (;;) {
		own->last = now();
		if (asked) {
			if (!strcmp(kind, "slow")) /* it tidies up */
				for (int i = 0; i < 40; i++) {
					nap(BEAT);
					own->last = now();
				}
			_exit(0);
		}
		nap(BEAT);
	}
}

/* ---- the observer ---- */

enum { PERIOD = 20000000, MOST = 256 };
static struct seen { int pid, lease, node, here; long token; } seen[MOST];

static ssize_t text(int pid, const char *what, char *to, size_t size) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, to, size - 1);
	if (fd >= 0)
		close(fd);
	to[got < 0 ? 0 : got] = 0;
	return got;
}

static int lives(int pid) { /* whether it could still do something */
	char stat[512], *end;
	return text(pid, "stat", stat, sizeof stat) > 0 && (end = strrchr(stat, ')')) &&
	    !strchr("ZX", end[2]);
}

static struct seen *found(int pid, const char *of) {
	struct seen *free = NULL;
	for (struct seen *one = seen; one < seen + MOST; one++) {
		if (one->pid == pid)
			return one;
		if (!one->pid && !free)
			free = one;
	}
	if (!free)
		errx(1, "too many commands");
	static char line[65536];
	ssize_t size = text(pid, "cmdline", line, sizeof line);
	char *word[6] = {0};
	int count = 0;
	for (char *at = line; at < line + size && count < 6; at += strlen(at) + 1)
		word[count++] = at;
	if (count < 6 || strcmp(word[1], "life") || strcmp(word[2], of))
		return NULL;
	struct seen new = {pid, atoi(word[3]), atoi(word[4]), 1, -1};
	size = text(pid, "environ", line, sizeof line);
	for (char *at = line; at < line + size; at += strlen(at) + 1)
		if (!strncmp(at, "VIAGRA_TOKEN=", 13))
			new.token = atol(at + 13);
	if (size <= 0 || !lives(pid))
		return NULL;
	printf("seen %ld %d %d %ld %d\n", (long)now(), new.lease, new.node, new.token, pid);
	*free = new;
	return free;
}

static void observe(const char *of) {
	char comm[64];
	int64_t due = now();
	setlinebuf(stdout);
	for (;;) {
		DIR *proc = opendir("/proc");
		for (struct dirent *at; (at = readdir(proc));) {
			int pid = atoi(at->d_name);
			if (!isdigit(at->d_name[0]) || text(pid, "comm", comm, sizeof comm) <= 0 ||
			    strcmp(comm, "life\n") || !lives(pid))
				continue;
			struct seen *one = found(pid, of);
			if (!one)
				continue;
			one->here = 1;
			for (struct seen *other = seen; other < seen + MOST; other++)
				/* One that was seen before, and still lives after this was seen. */
				if (other->pid && other->lease == one->lease &&
				    other->token != one->token && lives(other->pid) && lives(pid))
					printf("both %ld %d %ld %ld\n", (long)now(), one->lease,
					    other->token, one->token);
		}
		closedir(proc);
		for (struct seen *one = seen; one < seen + MOST; one++) {
			if (one->pid && !one->here) {
				printf("gone %ld %d %d %ld %d\n", (long)now(), one->lease, one->node,
				    one->token, one->pid);
				one->pid = 0;
			}
			one->here = 0;
		}
		due += PERIOD;
		if (now() < due)
			nap(due - now());
		if (now() - due > PERIOD) {
			printf("late %ld %ld\n", (long)now(), (long)(now() - due));
			due = now();
		}
	}
}

/* ---- the network ---- */

enum { PLACES = 8, PACKETS = 2048, LARGEST = 2048, SPACES = 100 };
static struct { int32_t loss, delay, jitter, unused; } (*links)[PLACES]; /* per mille, ms */
static struct packet { int64_t due; int to, size; char body[LARGEST]; } packets[PACKETS];

static int wire(int place) {
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	strcpy(request.ifr_name, "wire");
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request))
		err(1, "/dev/net/tun");
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	memset(address, 0, sizeof *address);
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(0x0a4d0001 + place); /* 10.77.0.1 is outside */
	if (ioctl(control, SIOCSIFADDR, &request))
		err(1, "address");
	address->sin_addr.s_addr = htonl(0xffffff00);
	if (ioctl(control, SIOCSIFNETMASK, &request))
		err(1, "mask");
	for (int i = 0; i < 2; i++) {
		request.ifr_flags = IFF_UP | IFF_RUNNING;
		if (ioctl(control, SIOCSIFFLAGS, &request))
			err(1, "up");
		strcpy(request.ifr_name, "lo");
	}
	close(control);
	return tun;
}

static int network(char **argv) {
	links = map(argv[2], PLACES * sizeof *links);
	int count = atoi(argv[3]) + 1;
	struct pollfd wires[PLACES];
	srand48(atol(argv[4]));
	for (int i = count - 1; i >= 0; i--) {
		int outside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		if (outside < 0 || (i && unshare(CLONE_NEWNET)))
			err(1, "network");
		wires[i] = (struct pollfd){.fd = wire(i), .events = POLLIN};
		int space = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		if (dup3(space, SPACES + i, O_CLOEXEC) < 0 || setns(outside, CLONE_NEWNET))
			err(1, "namespace");
		close(space), close(outside);
	}
	int held = 0;
	puts("ready"), fflush(stdout);
	for (;;) {
		int64_t next = INT64_MAX, time = now();
		for (struct packet *one = packets; held && one < packets + PACKETS; one++) {
			if (one->size && one->due <= time) {
				/* What finds the queue full is lost. */
				(void)!write(wires[one->to].fd, one->body, one->size);
				one->size = 0, held--;
			} else if (one->size && one->due < next)
				next = one->due;
		}
		int64_t wait = next == INT64_MAX ? 1000000000 : next - now();
		struct timespec limit = {0, wait < 0 ? 0 : wait > 999999999 ? 999999999 : wait};
		if (ppoll(wires, count, &limit, NULL) <= 0)
			continue;
		for (int from = 0; from < count; from++) {
			char body[LARGEST];
			ssize_t size;
			while ((size = read(wires[from].fd, body, sizeof body)) > 0) {
				int to = (unsigned char)body[19] - 1;
				if (body[0] >> 4 != 4 || to < 0 || to >= count)
					continue;
				if (drand48() * 1000 < links[from][to].loss)
					continue;
				double late = links[from][to].delay + drand48() * links[from][to].jitter;
				if (late == 0) {
					(void)!write(wires[to].fd, body, size);
					continue;
				}
				for (struct packet *one = packets; one < packets + PACKETS; one++)
					if (!one->size) {
						one->due = now() + late * 1e6, one->to = to, one->size = size;
						memcpy(one->body, body, size), held++;
						break;
					}
			}
		}
	}
}

/* ---- machines ---- */

static int machine(char **argv) {
	if (sethostname(argv[2], strlen(argv[2])) || mount("tmpfs", "/run", "tmpfs", 0, NULL))
		err(1, "machine");
	if (mount(argv[3], "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL))
		err(1, "boot_id");
	(void)!mount(argv[4], "/etc/machine-id", NULL, MS_BIND, NULL); /* some have none */
	for (;;)
		if (wait(NULL) < 0)
			nap(20000000);
}

static int enter(char **argv) {
	static const char *kind[] = {"uts", "net", "mnt", "pid", "time", NULL};
	int space[5];
	for (int i = 0; kind[i]; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%s/ns/%s", argv[2], kind[i]);
		if ((space[i] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			err(1, "%s", path);
	}
	int log = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	for (int i = 0; kind[i]; i++)
		if (setns(space[i], 0))
			err(1, "%s", kind[i]);
	pid_t pid = fork();
	if (pid) {
		printf("%d\n", pid);
		return pid < 0;
	}
	setsid();
	dup2(open("/dev/null", O_RDONLY), 0), dup2(log, 1), dup2(log, 2);
	execv(argv[4], argv + 4);
	err(127, "%s", argv[4]);
}

int main(int argc, char **argv) {
	if (argc == 6 && !strcmp(argv[1], "life"))
		return life(argv);
	if (argc == 3 && !strcmp(argv[1], "observe"))
		observe(argv[2]);
	if (argc == 5 && !strcmp(argv[1], "network"))
		return network(argv);
	if (argc == 5 && !strcmp(argv[1], "machine"))
		return machine(argv);
	if (argc >= 5 && !strcmp(argv[1], "enter"))
		return enter(argv);
	return 64;
}
