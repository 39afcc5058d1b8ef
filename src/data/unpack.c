#include "data/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

const char *unpack_program(const char *head, size_t n)
{
    static const struct {
        const char *magic;
        size_t bytes;
        const char *program;
    } known[] = {{"\x28\xb5\x2f\xfd", 4, "zstd"},
                 {"\xfd"
                  "7zXZ",
                  5, "xz"},
                 {"BZh", 3, "bzip2"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].bytes && memcmp(head, known[i].magic, known[i].bytes) == 0)
            return known[i].program;
    return NULL;
}

/* The child that hands on what the file has; ends when there is no more, or nobody reads. */
static void feed(gzFile in, int to)
{
    char bytes[1 << 16];
    int n;
    signal(SIGPIPE, SIG_DFL);
    while ((n = gzread(in, bytes, sizeof bytes)) > 0)
        for (int done = 0; done < n;) {
            ssize_t wrote = write(to, bytes + done, (size_t)(n - done));
            if (wrote < 0 && errno != EINTR)
                _exit(1);
            done += wrote > 0 ? (int)wrote : 0;
        }
    _exit(n == 0 ? 0 : 1);
}

static int start_reader(struct unpack *u, int from, int to, struct err *e)
{
    char *argv[] = {(char *)u->program, "-dcq", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t defaults;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, from, 0);
    posix_spawn_file_actions_adddup2(&files, to, 1);
    posix_spawnattr_init(&how);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGDEF);
    int why = posix_spawnp(&u->reader, u->program, &files, &how, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    if (why == ENOENT)
        return err_set(e, "the program %s, which unpacks it, is not installed (apt-get install %s)",
                       u->program, strcmp(u->program, "xz") == 0 ? "xz-utils" : u->program);
    return why ? err_set(e, "%s cannot be started: %s", u->program, strerror(why)) : 0;
}

gzFile unpack_open(struct unpack *u, const char *program, gzFile in, const char *name,
                   struct err *e)
{
    int packed[2], plain[2];
    *u = (struct unpack){.program = program};
    if (pipe2(packed, O_CLOEXEC) != 0 || pipe2(plain, O_CLOEXEC) != 0)
        die("a pipe cannot be made: %s", strerror(errno));
    if (start_reader(u, packed[0], plain[1], e) != 0) {
        for (int i = 0; i < 2; i++)
            close(packed[i]), close(plain[i]);
        err_prefix(e, "%s", name);
        u->program = NULL;
        return NULL;
    }
    close(packed[0]);
    close(plain[1]);
    u->feeder = fork();
    if (u->feeder < 0)
        die("no process can be started: %s", strerror(errno));
    if (u->feeder == 0) {
        close(plain[0]);
        feed(in, packed[1]);
    }
    close(packed[1]);
    gzclose(in);
    gzFile out = gzdopen(plain[0], "rb");
    if (!out)
        die("out of memory");
    return out;
}

static int wait_for(pid_t *child)
{
    int status = 0;
    while (*child > 0 && waitpid(*child, &status, 0) < 0 && errno == EINTR)
        ;
    *child = 0;
    return status;
}

int unpack_ended(struct unpack *u, const char *name, struct err *e)
{
    if (!u->program || u->reader <= 0)
        return 0;
    int status = wait_for(&u->reader);
    int fed = wait_for(&u->feeder);
    if (status != 0)
        return err_set(e, "%s: %s could not read it to its end (%s %d)", name, u->program,
                       WIFEXITED(status) ? "status" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return fed ? err_set(e, "%s: cannot be read to its end", name) : 0;
}

void unpack_close(struct unpack *u)
{
    /* Before its end: the feeder may be waiting for a terminal or a pipe that says nothing. */
    if (u->reader > 0)
        kill(u->reader, SIGKILL);
    if (u->feeder > 0)
        kill(u->feeder, SIGKILL);
    wait_for(&u->reader);
    wait_for(&u->feeder);
}
