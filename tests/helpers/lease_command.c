/*
 * The command that the tests of viagra-lease put under a lease.
 *
 *     lease_command DIRECTORY NODE [deaf] [tail] [slow=MS] [quit=MS:STATUS]
 *
 * First of all it locks DIRECTORY/lock. The lock belongs to the open file, which each
 * descendant inherits, and the kernel takes it away when the last of them is gone: a
 * command that starts while another one, or what is left of it, still lives, stopped
 * or dying, cannot have it, and says so. Nothing here depends on when who looks.
 *
 * Then "start NODE TOKEN PID TIME held|OVERLAP" goes to DIRECTORY/log, and into a
 * connection to DIRECTORY/socket, whose end of file is the end of all descendants.
 * TIME is the machine's monotonic clock, in seconds. At TERM: a "stop" line, and exit.
 *
 *     deaf    ignores TERM        slow    takes so long to stop
 *     tail    leaves a deaf descendant in a session of its own
 *     quit    ends by itself, after so long, with this exit status
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *node, *token;
static int record = -1, connection = -1;
static long slow;

static void nap(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
        ;
}

static int line(char *text, size_t room, const char *what, const char *more)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return snprintf(text, room, "%s %s %s %d %lld.%06ld%s\n", what, node, token,
                    (int)getpid(), (long long)now.tv_sec, now.tv_nsec / 1000, more);
}

static void stop(int signal)
{
    char text[256];
    int length = line(text, sizeof text, "stop", "");
    (void)signal;
    if (write(record, text, length) < 0)
        _exit(91);
    if (slow)
        nap(slow);
    _exit(0);
}

static int call(void)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX, .sun_path = "socket"};
    connection = socket(AF_UNIX, SOCK_STREAM, 0);
    return connection >= 0 && connect(connection, (void *)&place, sizeof place) == 0;
}

static void leave_tail(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            /* End of file: the tests are gone, and this must not outlive them. */
            while (read(connection, &(char){0}, 1) > 0)
                ;
        }
        _exit(0);
    }
}

int main(int argc, char **argv)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    long life = -1;
    int lock, held, called, tail = 0, status = 0, length;
    char text[256];

    if (argc < 3 || chdir(argv[1]) != 0)
        return 93;
    lock = open("lock", O_RDWR | O_CREAT, 0600);
    if (lock < 0)
        return 94;
    held = fcntl(lock, F_OFD_SETLK, &whole) == 0;
    node = argv[2];
    token = getenv("VIAGRA_TOKEN");
    if (!token)
        token = "none";
    record = open("log", O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (record < 0)
        return 95;
    signal(SIGTERM, stop);
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "deaf"))
            signal(SIGTERM, SIG_IGN);
        else if (!strcmp(argv[i], "tail"))
            tail = 1;
        else if (sscanf(argv[i], "slow=%ld", &slow) == 1)
            continue;
        else if (sscanf(argv[i], "quit=%ld:%d", &life, &status) != 2)
            return 96;
    }
    length = line(text, sizeof text, "start", held ? " held" : " OVERLAP");
    if (write(record, text, length) != length)
        return 97;
    called = call(); /* if no one listens: the log is still there */
    if (tail)
        leave_tail(); /* whoever hears of us may kill us at once */
    if (called && write(connection, text, length) < 0)
        return 92;
    if (life >= 0) {
        nap(life);
        return status;
    }
    for (;;)
        pause();
}
