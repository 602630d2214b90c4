/* still [NUMBER]: sits still until its parent ends, and so do NUMBER children of it.
 *
 * Executed under any name, it is a daemon to be watched; with children, a crowd of
 * processes that nobody watches. Prints a line when all of them are there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void sit(void)
{
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	long left = argc > 1 ? atol(argv[1]) : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (; left > 0; left--) {
		pid_t child = fork();
		if (child < 0) {
			perror("still: fork");
			return 1;
		}
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sit();
		}
	}
	puts("ready");
	fclose(stdout);
	sit();
}
