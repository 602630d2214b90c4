/* soak_daemon LEDGER LOCK RUN: a daemon of the soak, under the name of its program.
 *
 * Appends a line to LEDGER that tells of its birth, and sits still until a signal ends
 * it. It holds LOCK as long as it lives; the kernel gives that to one process only, so
 * a second daemon of its name tells so itself, however short both live.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* Returns how many descriptors it was given besides stdin, stdout and stderr. */
static int count_open(void)
{
	struct dirent *entry;
	int number = 0;
	DIR *open_files = opendir("/proc/self/fd");

	if (!open_files)
		return -1;
	while ((entry = readdir(open_files))) {
		int descriptor = atoi(entry->d_name);
		number += descriptor > 2 && descriptor != dirfd(open_files);
	}
	closedir(open_files);
	return number;
}

static void end_well(int number)
{
	_exit(number == SIGUSR1 ? 0 : 3);
}

int main(int argc, char **argv)
{
	char line[200];
	struct timespec now;
	int given = count_open();

	if (argc != 4)
		return 2;
	signal(SIGUSR1, end_well);
	signal(SIGUSR2, end_well);
	int lock = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int is_twin = flock(lock, LOCK_EX | LOCK_NB) != 0;
	int ledger = open(argv[1], O_WRONLY | O_APPEND | O_CLOEXEC);
	const char *name = strrchr(argv[0], '/');
	clock_gettime(CLOCK_REALTIME, &now);
	int length = snprintf(line, sizeof line, "%s %d %s %d %d %ld.%09ld\n",
		name ? name + 1 : argv[0], getpid(), argv[3], given, is_twin,
		(long)now.tv_sec, now.tv_nsec);
	if (lock < 0 || write(ledger, line, length) != length)
		return 1;
	close(ledger);
	for (;;)
		pause();
}
