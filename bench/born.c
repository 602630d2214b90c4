/* born: says when it was born, to the FIFO that $BORN names, and sits still.
 *
 * Writes its pid and the monotonic clock's seconds as one line. A program that needs
 * next to nothing for its own start, so that the time until then is its starter's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	char line[100];
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	const char *path = getenv("BORN");
	int fifo = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	int length = snprintf(line, sizeof line, "%d %ld.%09ld\n",
		getpid(), (long)now.tv_sec, now.tv_nsec);
	if (fifo < 0 || write(fifo, line, length) != length)
		return 1;
	close(fifo);
	for (;;)
		pause();
}
